"""Runs attention on GPU: cuDNN's flash attention if it supports the arrays, else XLA's.

B rows, T tokens, N query heads, K key/value heads, H head dimension.
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
