"""Where arrays are kept that are needed for a part of a step only: in the devices' memory, or in their hosts'.

What is kept in a host's memory, pinned so that the device can copy it, is brought to the device where it is computed
with, and leaves the device's memory to other things meanwhile. No bit of a result depends on it.
"""

import dataclasses
import enum
from typing import Any

import jax
from jax.sharding import Mesh

from posttrain_jax.types import InputError

_PINNED = "pinned_host"


class Kept(enum.StrEnum):
  """Whose memory."""

  DEVICE = "device"
  HOST = "host"


@dataclasses.dataclass(frozen=True)
class Memory:
  """What is kept where.

  Attributes:
    optimizer: moments of the optimiser, needed at the end of each update; twice the float32 parameters with AdamW.
    reference: parameters of the frozen reference, needed once a step where the objective has a KL term.
  """

  optimizer: Kept = Kept.DEVICE
  reference: Kept = Kept.DEVICE

  def check(self, mesh: Mesh) -> None:
    """Raises InputError where something is to be kept in a memory that the devices of a mesh do not reach."""
    device = mesh.local_devices[0]
    if any(memory.kind == _PINNED for memory in device.addressable_memories()):
      return
    for field in dataclasses.fields(self):
      if getattr(self, field.name) == Kept.HOST:
        raise InputError(f"memory.{field.name}: host, but a {device.device_kind} reaches no {_PINNED} memory")


def on_device(shardings: Any) -> Any:
  """The same shardings where their arrays are computed with; None where that is where they are kept."""
  if all(sharding.memory_kind != _PINNED for sharding in jax.tree.leaves(shardings)):
    return None
  return jax.tree.map(lambda sharding: sharding.with_memory_kind("device"), shardings)


def keep(shardings: Any, kept: Kept) -> Any:
  """The same shardings in the memory where their arrays are kept."""
  if kept == Kept.DEVICE:
    return shardings
  return jax.tree.map(lambda sharding: sharding.with_memory_kind(_PINNED), shardings)
