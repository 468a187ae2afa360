"""Runs attention on GPU: cuDNN's flash attention if it supports the arrays, else XLA's.

B rows, T tokens, N query heads, K key/value heads, H head dimension, Tp tokens of a prefix.
"""

import jax
import jax.numpy as jnp


def same_segment(segment_ids: jax.Array | None) -> jax.Array | None:
  """Returns the mask of token pairs in the same segment.

  Args:
    segment_ids: int [B, T]; None: one segment a row.

  Returns:
    bool [B, 1, T, T]; None without segment_ids.
  """
  return None if segment_ids is None else (segment_ids[:, :, None] == segment_ids[:, None, :])[:, None]


def causal(query: jax.Array, key: jax.Array, value: jax.Array, segment_ids: jax.Array | None = None) -> jax.Array:
  """Lets each token attend to itself and to earlier tokens of its segment.

  Args: as in `splash.causal`.

  Returns:
    [B, T, N, H].
  """
  mask = same_segment(segment_ids)
  length, head_dim = query.shape[1], query.shape[-1]
  # cuDNN supports 16-bit heads of up to 128 numbers, and a mask only over an even number of tokens.
  fits = query.dtype == jnp.bfloat16 and head_dim <= 128 and head_dim % 8 == 0 and (mask is None or length % 2 == 0)
  implementation = "cudnn" if fits else "xla"
  return jax.nn.dot_product_attention(query, key, value, mask=mask, is_causal=True, implementation=implementation)


def after_prefix(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  prefix_key: jax.Array,
  prefix_value: jax.Array,
  prefix_lengths: jax.Array,
) -> jax.Array:
  """Lets each token attend to its row's prefix, to itself and to earlier tokens.

  Padding of the prefix is not attended to. A mask would have as many numbers as there are scores. Instead the padding
  is moved to the end of the row, where causal attention does not see it. The prefix's queries are zeros, as their
  results are not used.

  Args: as in `splash.after_prefix`.

  Returns:
    [B, T, N, H].
  """
  length, width = query.shape[1], prefix_key.shape[1]
  at = jnp.arange(width + length)[None]
  n = prefix_lengths[:, None]
  # Indices that reorder [prefix, padding, own] to [prefix, own, padding], and the indices of `own` after that.
  order = jnp.where(at < n, at, jnp.where(at < n + length, at + width - n, at - length))
  own = n + jnp.arange(length)[None]

  def together(prefix, x):
    joined = jnp.concatenate([prefix, x], axis=1)
    return jnp.take_along_axis(joined, order[..., None, None], axis=1)

  prefix_query = jnp.zeros((query.shape[0], width, *query.shape[2:]), query.dtype)
  attended = causal(together(prefix_query, query), together(prefix_key, key), together(prefix_value, value))
  return jnp.take_along_axis(attended, own[..., None, None], axis=1)
