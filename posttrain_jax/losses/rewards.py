"""Shapes rewards: a penalty for long answers, and rewards per token.

All results are constants: no gradient flows through them.
"""

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking


def soft_overlong_penalty(lengths: chex.Array, *, max_length: int, buffer: int) -> jax.Array:
  """Computes DAPO's soft overlong penalty.

  penalty = −clip((length − (max_length − buffer)) / buffer, 0, 1)

  "DAPO" (arXiv:2503.14476), eq. 13. The penalty is 0 for short answers and falls to −1 for answers at the cap. It is
  added to the reward; dynamic sampling uses the accuracy without it.

  Args:
    lengths: int, any shape: number of generated tokens of each answer, EOS included.
    max_length: the engine's cap on new tokens.
    buffer: length of the ramp before the cap in tokens, 0 to max_length. 0 gives a step: −1 at the cap, 0 before it.

  Returns:
    Penalties in [−1, 0] of the same shape, in at least float32.

  Raises:
    ValueError: if buffer is not in [0, max_length].
  """
  if not 0 <= buffer <= max_length:
    raise ValueError(f"buffer: expected 0 to max_length = {max_length} tokens, found {buffer}")
  lengths = jnp.asarray(lengths)
  dtype = masking.at_least_float32(lengths)
  if buffer == 0:
    return -(lengths >= max_length).astype(dtype)
  # Integers keep the difference exact at any length.
  over = jnp.clip(lengths - (max_length - buffer), 0, buffer)
  return -over.astype(dtype) / buffer


def token_rewards(
  score: chex.Array, mask: chex.Array, *, kl: chex.Array | None = None, kl_coefficient: chex.Numeric = 0.0
) -> jax.Array:
  """Puts an answer's score on its last counted token, and subtracts the KL on all.

  r_t = −kl_coefficient · kl_t + [t is the last counted token] · score

  "Training language models to follow instructions with human feedback" (arXiv:2203.02155), eq. 2. The KL is subtracted
  token by token, as in arXiv:1909.08593.

  Args:
    score: float [B], one per answer; B stands for any leading axes.
    mask: [B, T], bool or float, not 0 on counted tokens. It may have holes. An answer without a counted token gets
      zeros.
    kl: float [B, T], estimates per token such as `losses.kl.kl_estimate(old, reference, estimator="k1")`; None: no KL
      is subtracted.
    kl_coefficient: β, the cost of one nat.

  Returns:
    [B, T] rewards in at least float32, 0 where the mask is 0.
  """
  chex.assert_shape(score, jnp.shape(mask)[:-1])
  spread_score = jnp.broadcast_to(jnp.asarray(score)[..., None], jnp.shape(mask))
  mask, spread_score, kl = masking.counted(mask, spread_score, jnp.zeros_like(spread_score) if kl is None else kl)
  counted_from_here = jax.lax.cumsum(mask.astype(jnp.int32), axis=mask.ndim - 1, reverse=True)
  last = mask & (counted_from_here == 1)
  return jax.lax.stop_gradient(jnp.where(last, spread_score, 0) - kl_coefficient * kl)
