"""The device mesh: three named axes, sizes from the config, and what kind of devices it is made of."""

import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from posttrain_jax.types import InputError

AXES = ("data", "fsdp", "tensor")


def make_mesh(sizes: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
  """Builds a mesh with axes `data` (replicas), `fsdp` (batch and parameters sharded) and `tensor` (heads, MLP, vocab).

  Args:
    sizes: devices along each axis; an axis left out has 1, and at most one may be -1: what the others leave.
    devices: the devices to use, all by default.

  Returns:
    A mesh whose axes are all automatic: shardings are given at jit boundaries and by `constrain`.

  Raises:
    InputError: an unknown axis, a size below 1, or a product that is not the number of devices.
  """
  devices = jax.devices() if devices is None else list(devices)
  unknown = set(sizes) - set(AXES)
  if unknown:
    raise InputError(f"mesh: unknown axis {sorted(unknown)[0]!r}, expected some of {', '.join(AXES)}")
  shape = [int(sizes.get(axis, 1)) for axis in AXES]
  if any(size < 1 and size != -1 for size in shape) or shape.count(-1) > 1:
    raise InputError(f"mesh: sizes {dict(zip(AXES, shape))}, expected positive numbers and at most one -1")
  if -1 in shape:
    fixed = -math.prod(shape)
    if len(devices) % fixed:
      raise InputError(f"mesh: {len(devices)} devices do not divide by {fixed}, sizes {dict(zip(AXES, shape))}")
    shape[shape.index(-1)] = len(devices) // fixed
  if math.prod(shape) != len(devices):
    wanted = " x ".join(f"{axis}={size}" for axis, size in zip(AXES, shape))
    raise InputError(f"mesh: {wanted} needs {math.prod(shape)} devices, there are {len(devices)}")
  return Mesh(np.asarray(devices).reshape(shape), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def platform() -> str:
  """What the program being traced will run on: "cpu", "gpu" or "tpu", from the mesh that is set, else JAX's default.

  Its devices need not be there: a program that is compiled for a topology is traced under a mesh of that topology.
  """
  device = jax.sharding.get_abstract_mesh().abstract_device
  return jax.default_backend() if device is None else device.platform
