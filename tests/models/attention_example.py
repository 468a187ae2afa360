"""Makes random projections, and compares attention with and without a platform's kernels on a CPU.

Head dimension 128 by default, as the TPU's kernel has it on the chip.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from posttrain_jax.models import attention
from posttrain_jax.parallel.mesh import AXES

HEADS, KV_HEADS, WIDTH = 4, 2, 128


@contextlib.contextmanager
def kernels(module):
  """Lets `attention` take these kernels, on a CPU."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(attention, "platform", lambda: "here")
    patch.setitem(attention._KERNELS, "here", module)
    yield


def traced_for(platform, shape=(1, 1, 1)):
  """Sets a mesh of devices that do not exist."""
  device = AbstractDevice(device_kind="made up", num_cores=1, platform=platform)
  return jax.sharding.use_abstract_mesh(AbstractMesh(shape, AXES, (AxisType.Auto,) * 3, abstract_device=device))


def projections(batch, length, *, width=WIDTH, dtype=np.float32):
  rng = np.random.default_rng(0)
  shapes = [(batch, length, heads, width) for heads in (HEADS, KV_HEADS, KV_HEADS)]
  return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def assert_same(attend, kernel, arrays, counted=slice(None)):
  """Computes values at the tokens that count and gradients of a scalar of them, with and without a kernel."""
  weights = np.random.default_rng(1).normal(size=arrays[0].shape).astype(np.float32)

  def value_and_gradient():
    def scalar(*arrays):
      attended = attend(*arrays, None)[0][counted]
      return jnp.sum(attended * weights[counted]), attended

    (_, attended), gradient = jax.jit(jax.value_and_grad(scalar, (0, 1, 2), has_aux=True))(*arrays)
    return attended, gradient

  expected, expected_gradient = value_and_gradient()
  with kernels(kernel):
    found, gradient = value_and_gradient()
  np.testing.assert_allclose(found, expected, atol=1e-5)
  for a, b in zip(gradient, expected_gradient):
    assert np.abs(b).max() > 1e-3  # else equality would say nothing
    np.testing.assert_allclose(a, b, atol=5e-5)


def packed(length):
  return jnp.asarray(np.sort(np.random.default_rng(2).integers(0, 3, size=(2, length)), axis=1), jnp.int32)
