"""Tests attention by tiles against plain masked attention over whole rows, gradients included, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.models.tile_plan import Spans, plan_tiles
from posttrain_jax.models.tiles import Tiling, attend_tiles

# Prompts (tokens before the answers) and answers of two rows of 64 tokens; the third prompt is empty.
ROWS = [([5, 9], [[3, 7, 4], [11, 2]]), ([17, 0, 3], [[6], [9, 5], [1, 12]])]
LENGTH, QUERY_HEADS, HEADS, SIZE = 64, 6, 2, 8


def spans(rows=ROWS, length=LENGTH):
  made = Spans(*(np.zeros((len(rows), length), np.int32) for _ in range(3)))
  made.own[:] = length
  for row, (prompts, answers) in enumerate(rows):
    at, behind = 0, length - sum(prompts)
    for prompt, lengths in zip(prompts, answers):
      made.own[row, behind : behind + prompt] = behind
      for each in lengths:
        made.own[row, at : at + each] = at
        made.prefix_start[row, at : at + each], made.prefix_end[row, at : at + each] = behind, behind + prompt
        at += each
      behind += prompt
  return made


def allowed(spans):
  """Writes the definition out: token q sees token k."""
  rows, length = spans.own.shape
  seen = np.zeros((rows, length, length), bool)
  for r in range(rows):
    for q in range(length):
      seen[r, q, spans.own[r, q] : q + 1] = True
      seen[r, q, max(q + 1, spans.prefix_start[r, q]) : spans.prefix_end[r, q]] = True
  return seen


def plain(query, key, value, seen):
  key, value = (jnp.repeat(x, QUERY_HEADS // HEADS, axis=2) for x in (key, value))
  scores = jnp.einsum("rqah,rkah->raqk", query, key) * SIZE**-0.5
  weights = jax.nn.softmax(jnp.where(seen[:, None], scores, -1e30), axis=-1)
  return jnp.einsum("raqk,rkah->rqah", jnp.where(seen[:, None], weights, 0), value)


def arrays(dtype, length=LENGTH):
  rng = np.random.default_rng(0)
  shapes = [(2, length, heads, SIZE) for heads in (QUERY_HEADS, HEADS, HEADS, QUERY_HEADS)]
  return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def value_and_gradient(function, dtype):
  *inputs, direction = arrays(dtype)
  scalar = lambda *inputs: (function(*inputs) * direction).sum()  # noqa: E731
  return jax.jit(function)(*inputs), *jax.jit(jax.grad(scalar, argnums=(0, 1, 2)))(*inputs)


@functools.cache
def expected():
  with jax.enable_x64(True):
    seen = jnp.asarray(allowed(spans()))
    return [np.asarray(x) for x in value_and_gradient(lambda *inputs: plain(*inputs, seen), jnp.float64)]


def by_tiles(tiling):
  given = jax.tree.map(jnp.asarray, spans())
  plan = plan_tiles(given, tiling.tile)
  return lambda *inputs: attend_tiles(*inputs, given, plan, tiling)


@pytest.mark.parametrize("tiling", [Tiling(8, 3), Tiling(16, 1), Tiling(64, 8)])
def test_values_and_gradients_are_those_of_masked_attention(tiling, x64):
  found = value_and_gradient(by_tiles(tiling), jnp.float64)
  for one, other in zip(found, expected()):
    np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 2e-5), (jnp.bfloat16, 0.1)])
def test_other_dtypes(dtype, tolerance):
  found = value_and_gradient(by_tiles(Tiling(8, 3)), dtype)
  for one, other in zip(found, expected()):
    assert one.dtype == dtype
    np.testing.assert_allclose(np.asarray(one, np.float64), other, atol=tolerance)


def test_places_without_a_token_get_zeros_and_give_no_gradient():
  empty = spans().own == LENGTH
  assert empty.any()
  for found in value_and_gradient(by_tiles(Tiling(16, 2)), jnp.float32):
    assert not np.asarray(found)[empty].any()


def test_large_scores_do_not_overflow():
  query, key, value, _ = arrays(jnp.float32)
  found = by_tiles(Tiling(8, 3))(1e3 * query, 1e3 * key, value)
  with jax.enable_x64(True):
    given = (jnp.asarray(x, jnp.float64) for x in (1e3 * query, 1e3 * key, value))
    wanted = plain(*given, jnp.asarray(allowed(spans())))
  np.testing.assert_allclose(found, wanted, atol=1e-3)
