"""Builds the device mesh, of three named axes, and names its platform."""

import math
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from posttrain_jax.types import InputError

AXES = ("data", "fsdp", "tensor")


def make_mesh(sizes: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
  """Builds a mesh with the axes `data`, `fsdp` and `tensor`.

  `data` holds replicas; `fsdp` shards the batch and the parameters; `tensor` shards heads, MLP and vocabulary.

  Args:
    sizes: devices along each axis; an axis that is left out has 1. At most one may be -1: it gets the devices that the
      others leave.
    devices: the devices to use; None: all.

  Returns:
    A mesh whose axes are all automatic: shardings are given at jit boundaries and by `constrain`.

  Raises:
    InputError: if an axis is unknown, a size is below 1, or the product of the sizes is not the number of devices.
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
  """Names the platform of the program being traced: "cpu", "gpu" or "tpu".

  It is that of the mesh that is set (`jax.set_mesh`), or JAX's default without one. The mesh's devices need not exist:
  a program that is compiled for a topology is traced under a mesh of that topology.
  """
  device = jax.sharding.get_abstract_mesh().abstract_device
  return jax.default_backend() if device is None else device.platform
