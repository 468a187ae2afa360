"""The TPU kernel, step by step on a CPU, and the GPU's layout of prompts, against the formulas that a CPU runs.

Head dimension 128 and blocks of 128 tokens, as the kernel has them on the chip.
"""

import contextlib
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from posttrain_jax.models import attention, flash, splash
from posttrain_jax.parallel.mesh import AXES, make_mesh

HEADS, KV_HEADS, WIDTH = 4, 2, 128
INTERPRETED = types.SimpleNamespace(
  causal=functools.partial(splash.causal, interpret=True),
  after_prefix=functools.partial(splash.after_prefix, interpret=True),
)


@contextlib.contextmanager
def kernels(module):
  """`attention` takes these kernels, on a CPU."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(attention, "platform", lambda: "here")
    patch.setitem(attention._KERNELS, "here", module)
    yield


def traced_for(platform, shape=(1, 1, 1)):
  """A mesh of devices that are not there."""
  device = AbstractDevice(device_kind="made up", num_cores=1, platform=platform)
  return jax.sharding.use_abstract_mesh(AbstractMesh(shape, AXES, (AxisType.Auto,) * 3, abstract_device=device))


def projections(batch, length, *, width=WIDTH, dtype=np.float32):
  rng = np.random.default_rng(0)
  shapes = [(batch, length, heads, width) for heads in (HEADS, KV_HEADS, KV_HEADS)]
  return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def assert_same(attend, kernel, arrays, counted=slice(None)):
  """Values at the tokens that count, and gradients of a scalar of them, with and without a kernel."""
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


def test_packed_rows_of_a_length_that_is_padded():
  assert_same(attention.causal(packed(150)), INTERPRETED, projections(2, 150))


@pytest.mark.slow  # interpreted on four devices, the kernel compiles for half a minute
def test_on_a_mesh_each_device_has_its_own_rows_and_heads():
  arrays = projections(2, 150)
  expected, _ = attention.causal(packed(150))(*arrays, None)
  with jax.set_mesh(make_mesh(dict(fsdp=2, tensor=2), jax.devices()[:4])):
    found = jax.jit(INTERPRETED.causal)(*arrays, packed(150))
  np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kernel", [INTERPRETED, flash], ids=["splash", "flash"])
def test_grouped_answers(kernel):
  """Prompts of all lengths, one of them without a token; answers over one block long."""
  attend = attention.grouped(jnp.array([20, 7, 0]), prefix_width=20, group_size=2)
  counted = (slice(None), slice(20, None))  # in a prompt's padding the result is arbitrary
  assert_same(attend, kernel, projections(3, 20 + 2 * 130), counted)


def test_answers_without_a_prompt():
  attend = attention.grouped(jnp.array([0]), prefix_width=0, group_size=2)
  assert_same(attend, INTERPRETED, projections(1, 2 * 20))


def test_scores_are_float32_under_bfloat16():
  """As in attention_test: keys that differ by less than a bfloat16 step of the scores."""
  scale = float(np.sqrt(WIDTH))
  query = jnp.zeros((1, 3, HEADS, WIDTH), jnp.bfloat16).at[..., :2].set(1.0)
  key = jnp.zeros((1, 3, KV_HEADS, WIDTH), jnp.bfloat16).at[..., 0].set(256.0 * scale).at[:, 1, :, 1].set(scale)
  value = jnp.zeros((1, 3, KV_HEADS, WIDTH), jnp.bfloat16).at[:, 1].set(1.0)
  attended = jax.jit(INTERPRETED.causal)(query, key, value)
  assert attended.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.asarray(attended[0, -1], np.float32), np.e / (np.e + 2), atol=0.02)


@pytest.mark.parametrize(
  ("length", "block"), [(1, 128), (128, 128), (150, 128), (460, 512), (640, 128), (2047, 512), (20_480, 512)]
)
def test_blocks_are_large_where_that_pads_little(length, block):
  assert splash._block(length) == block


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("kind", ["packed", "grouped"])
def test_the_mesh_says_what_a_program_runs_on(kind, width):
  """Lowered on a CPU for a TPU, forward and backward: the kernel's own checks of its blocks pass."""
  attend = attention.causal(packed(150))
  if kind == "grouped":
    attend = attention.grouped(jnp.array([20, 7]), prefix_width=20, group_size=1)
  arrays = projections(2, 150, width=width, dtype=jnp.bfloat16)

  def gradient(*arrays):
    return jax.grad(lambda *arrays: attend(*arrays, None)[0].astype(jnp.float32).sum(), (0, 1, 2))(*arrays)

  with traced_for("tpu"):
    lowered = jax.jit(gradient).trace(*arrays).lower(lowering_platforms=("tpu",)).as_text()
  assert lowered.count("tpu_custom_call") >= 3  # forward, and a kernel each for the gradients of queries and of keys
  assert "tpu_custom_call" not in jax.jit(gradient).lower(*arrays).as_text()


@pytest.mark.parametrize(
  ("dtype", "width", "length", "implementation"),
  [
    (jnp.bfloat16, 64, 6, "cudnn"),
    (np.float32, 64, 6, "xla"),
    (jnp.bfloat16, 6, 6, "xla"),
    (jnp.bfloat16, 64, 5, "xla"),
  ],
)
def test_cudnn_where_it_takes_the_arrays(dtype, width, length, implementation, monkeypatch):
  taken = []

  def stand_in(query, *_, implementation, **__):
    taken.append(implementation)
    return query

  monkeypatch.setattr(jax.nn, "dot_product_attention", stand_in)
  with traced_for("gpu"):
    jax.eval_shape(
      lambda *arrays: attention.causal(packed(length))(*arrays, None)[0],
      *projections(2, length, width=width, dtype=dtype),
    )
  assert taken == [implementation]
