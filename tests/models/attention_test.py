"""Tests each kind of attention against the plain formula in numpy float64, and the masks at their edges."""

import jax
import jax.numpy as jnp
import numpy as np

from posttrain_jax.models import attention

HEADS, KV_HEADS, WIDTH = 4, 2, 6


def projections(batch, length, seed=0, dtype=np.float32):
  rng = np.random.default_rng(seed)
  shapes = [(batch, length, heads, WIDTH) for heads in (HEADS, KV_HEADS, KV_HEADS)]
  return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def plain(query, key, value, allowed):
  """Computes softmax(q k / sqrt(H)) v with an explicit mask [B, T, T'], one head at a time."""
  query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
  attended = np.zeros(query.shape)
  for head in range(HEADS):
    own = head // (HEADS // KV_HEADS)
    scores = np.einsum("bth,bsh->bts", query[:, :, head], key[:, :, own]) / np.sqrt(WIDTH)
    scores = np.where(allowed, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    attended[:, :, head] = np.einsum("bts,bsh->bth", weights, value[:, :, own])
  return attended


def test_causal():
  query, key, value = projections(2, 7)
  attended, kept = attention.causal()(query, key, value, None)
  np.testing.assert_allclose(attended, plain(query, key, value, np.tril(np.ones((7, 7), bool))[None]), atol=1e-5)
  assert kept is None


def test_segments_see_themselves_only():
  query, key, value = projections(2, 7)
  segments = np.array([[0, 0, 0, 1, 1, 2, 2], [4, 4, 4, 4, 4, 4, 1]])
  allowed = np.tril(np.ones((7, 7), bool))[None] & (segments[:, :, None] == segments[:, None, :])
  attended, _ = attention.causal(jnp.asarray(segments))(query, key, value, None)
  np.testing.assert_allclose(attended, plain(query, key, value, allowed), atol=1e-5)


def test_a_row_without_keys_gives_no_nan():
  """Covers padding with a segment of its own."""
  query, key, value = projections(1, 4)
  allowed_none = jax.nn.dot_product_attention(query, key, value, mask=jnp.zeros((1, 1, 4, 4), bool))
  np.testing.assert_allclose(allowed_none[0, :, 0], jnp.broadcast_to(value[0, :, 0].mean(0), (4, WIDTH)), atol=1e-5)


def test_scores_are_float32_under_bfloat16():
  """Uses two keys whose scores differ by less than a bfloat16 step; float32 scores tell them apart."""
  scale = float(np.sqrt(WIDTH))
  query = jnp.zeros((1, 3, HEADS, WIDTH), jnp.bfloat16).at[..., :2].set(1.0)
  key = jnp.zeros((1, 3, KV_HEADS, WIDTH), jnp.bfloat16).at[..., 0].set(256.0 * scale).at[:, 1, :, 1].set(scale)
  value = jnp.zeros((1, 3, KV_HEADS, WIDTH), jnp.bfloat16).at[:, 1].set(1.0)
  # In bfloat16 256 + 1 is 256, and the weight of the second key would be 1/3 instead of e / (e + 2).
  expected = np.e / (np.e + 2)
  attended, _ = attention.causal()(query, key, value, None)
  assert attended.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.asarray(attended[0, -1], np.float32), expected, atol=0.02)
