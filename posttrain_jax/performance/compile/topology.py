"""Describes the devices and memory of TPUs that this machine does not have.

Programs can be compiled for such devices, but not run. libtpu, an ordinary wheel, compiles for any topology on any
machine; `launch/README.md` says how to install it.
"""

import importlib.util
import os
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posttrain_jax.types import InputError

# libtpu reads these when it is loaded: it then asks no metadata server, and several processes may compile at once.
_ENVIRONMENT = {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}


def devices(name: str, *, slices: int = 1) -> list[jax.Device]:
  """Returns the devices of a topology, slice by slice.

  Args:
    name: generation and chips along each axis, such as "v5e:2x2" or "v5p:4x4x8".
    slices: number of slices, which the data-center network connects.

  Raises:
    InputError: if libtpu is not installed, or does not know the topology.
  """
  if importlib.util.find_spec("libtpu") is None:
    raise InputError(f"--topology={name}: libtpu is not installed, which compiles for it (see launch/README.md)")
  for variable, value in _ENVIRONMENT.items():
    os.environ.setdefault(variable, value)
  options = {} if slices == 1 else {"num_slices": slices}
  try:
    found = topologies.get_topology_desc(platform="tpu", topology_name=name, **options).devices
  except (jax.errors.JaxRuntimeError, ValueError) as error:
    raise InputError(f"--topology={name}: libtpu knows no such topology, expected one like v5e:2x2: {error}") from None
  return sorted(found, key=lambda device: (getattr(device, "slice_index", 0), device.id))


def memory_gib(devices: Sequence[jax.Device]) -> float:
  """Returns the GiB that a program may take on each device.

  The number is the compiler's own, from its message when it refuses a program that is far too large.
  """
  everywhere = NamedSharding(Mesh(np.asarray(devices), ("all",)), PartitionSpec())
  huge = jax.ShapeDtypeStruct((2**20, 2**24), jnp.float32, sharding=everywhere)
  try:
    jax.jit(jnp.cos).trace(huge).lower(lowering_platforms=("tpu",)).compile()
  except jax.errors.JaxRuntimeError as error:
    if limit := re.search(r"available HBM \(([\d.]+)([MGT])\)|of ([\d.]+)([MGT]) hbm", str(error)):
      return _gib(limit)
    raise
  raise RuntimeError(f"{devices[0].device_kind}: accepted a program of 64 TiB")


def needed_gib(message: str) -> float | None:
  """Reads from the compiler's message the GiB that a refused program needs on a device.

  Returns:
    GiB, or None if the program was refused for another reason.
  """
  found = re.search(r"memory required for [\w ]+ \(([\d.]+)([MGT])\)|Used ([\d.]+)([MGT]) of", message)
  return _gib(found) if found else None


def _gib(found: re.Match) -> float:
  number, unit = (group for group in found.groups() if group)
  return float(number) * {"M": 2.0**-10, "G": 1.0, "T": 2.0**10}[unit]
