"""Decides whether arrays that a step needs only briefly stay in device or host memory.

Host memory is pinned, so that the device can copy from it. An array in host memory is copied to the device when a
program computes with it; until then the device's memory is free for other arrays. The choice changes no bit of any
result.
"""

import dataclasses
import enum
from typing import Any

import jax
from jax.sharding import Mesh

from posttrain_jax.types import InputError

PINNED = "pinned_host"  # the name of the memory in JAX


class Kept(enum.StrEnum):
  """Names a memory."""

  DEVICE = "device"
  HOST = "host"


@dataclasses.dataclass(frozen=True)
class Memory:
  """Holds the memory of each group of arrays that a step needs only briefly.

  Attributes:
    optimizer: the optimiser's moments, which the end of each update needs. With AdamW they are twice the size of the
      float32 parameters.
  """

  optimizer: Kept

  def check(self, mesh: Mesh) -> None:
    """Raises InputError if a setting is HOST but the devices reach no pinned memory."""
    for field in dataclasses.fields(self):
      if getattr(self, field.name) == Kept.HOST:
        check_host_memory(mesh, f"memory.{field.name}")


@dataclasses.dataclass(frozen=True)
class MemoryWithReference(Memory):
  """Holds the memory of each group of arrays of a method with a frozen reference.

  Attributes:
    reference: the reference's parameters, which a step needs once if the objective has a KL term.
  """

  reference: Kept


def check_host_memory(mesh: Mesh, where: str) -> None:
  """Refuses a setting that keeps arrays in host memory where the devices cannot reach it.

  Args:
    mesh: the devices.
    where: the setting's name, for the message.

  Raises:
    InputError: if the devices reach no pinned memory.
  """
  device = mesh.local_devices[0]
  if all(memory.kind != PINNED for memory in device.addressable_memories()):
    raise InputError(f"{where}: host, but a {device.device_kind} reaches no {PINNED} memory")


def on_device(shardings: Any) -> Any:
  """Returns shardings in device memory, where programs compute with the arrays.

  Args:
    shardings: pytree of shardings.

  Returns:
    The same tree in device memory; None if no sharding is in host memory: there is nothing to copy.
  """
  if all(sharding.memory_kind != PINNED for sharding in jax.tree.leaves(shardings)):
    return None
  return jax.tree.map(lambda sharding: sharding.with_memory_kind("device"), shardings)


def keep(shardings: Any, kept: Kept) -> Any:
  """Returns shardings in the memory where the arrays are kept.

  Args:
    shardings: pytree of shardings in device memory.
    kept: the memory.
  """
  if kept == Kept.DEVICE:
    return shardings
  return jax.tree.map(lambda sharding: sharding.with_memory_kind(PINNED), shardings)
