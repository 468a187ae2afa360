"""Tests the TPU kernel, step by step on a CPU, against a CPU's formulas.

Blocks have 128 tokens.
"""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.models import attention, splash
from posttrain_jax.parallel.mesh import make_mesh
from tests.models.attention_example import (
  HEADS,
  KV_HEADS,
  WIDTH,
  assert_same,
  packed,
  projections,
  traced_for,
)

INTERPRETED = types.SimpleNamespace(causal=functools.partial(splash.causal, interpret=True))


def test_packed_rows_of_a_length_that_is_padded():
  assert_same(attention.causal(packed(150)), INTERPRETED, projections(2, 150))


@pytest.mark.slow  # interpreted on four devices, the kernel compiles for half a minute
def test_on_a_mesh_each_device_has_its_own_rows_and_heads():
  arrays = projections(2, 150)
  expected, _ = attention.causal(packed(150))(*arrays, None)
  with jax.set_mesh(make_mesh(dict(fsdp=2, tensor=2), jax.devices()[:4])):
    found = jax.jit(INTERPRETED.causal)(*arrays, packed(150))
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_scores_are_float32_under_bfloat16():
  """Uses keys that differ by less than a bfloat16 step of the scores, as in attention_test."""
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
def test_the_mesh_says_what_a_program_runs_on(width):
  """Lowers on a CPU for a TPU, forward and backward: the kernel's own checks of its blocks pass."""
  attend = attention.causal(packed(150))
  arrays = projections(2, 150, width=width, dtype=jnp.bfloat16)

  def gradient(*arrays):
    return jax.grad(lambda *arrays: attend(*arrays, None)[0].astype(jnp.float32).sum(), (0, 1, 2))(*arrays)

  with traced_for("tpu"):
    lowered = jax.jit(gradient).trace(*arrays).lower(lowering_platforms=("tpu",)).as_text()
  assert lowered.count("tpu_custom_call") >= 3  # forward, and a kernel each for the gradients of queries and of keys
  assert "tpu_custom_call" not in jax.jit(gradient).lower(*arrays).as_text()
