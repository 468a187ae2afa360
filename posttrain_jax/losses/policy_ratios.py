"""Ratios of learner to old policy, as the surrogates use them: masked, and clipped as logarithms.

exp(clip(log ρ, log low, log high)) is clip(ρ, low, high), but a ratio too large for the dtype is clipped before it
overflows, so its gradient is 0 and not 0 · inf.
"""

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking

# No ratio is taken for larger than e²⁰ (verl's bound too): where nothing else bounds it (a negative advantage without
# dual clip), a square of the gradient, as in its norm, would overflow long before the ratio does.
MAX_LOG_RATIO = 20.0


def log_ratio(
  learner_logprobs: chex.Array, old_logprobs: chex.Array, advantages: chex.Array, mask: chex.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Checks and masks what every surrogate takes; old logprobs and advantages become constants.

  Args:
    learner_logprobs: [B, T]; B stands for any leading axes.
    old_logprobs: [B, T].
    advantages: [B, T], or [B, 1] for one advantage per answer.
    mask: [B, T], bool or float, not 0 on counted tokens.

  Returns:
    The bool mask, log ρ = learner − old, and the advantages spread over tokens; all [B, T] and 0 where masked.
  """
  chex.assert_equal_shape([learner_logprobs, old_logprobs, mask])
  *leading, length = jnp.shape(mask)
  chex.assert_shape(advantages, (*leading, {1, length}))
  advantages = jnp.broadcast_to(jnp.asarray(advantages), (*leading, length))
  old_logprobs, advantages = jax.lax.stop_gradient((old_logprobs, advantages))
  mask, learner_logprobs, old_logprobs, advantages = masking.counted(mask, learner_logprobs, old_logprobs, advantages)
  return mask, learner_logprobs - old_logprobs, advantages


def pessimistic_bounds(
  advantages: jax.Array, clip_low: chex.Numeric, clip_high: chex.Numeric, dual_clip: chex.Numeric | None
) -> tuple[jax.Array, jax.Array]:
  """Bounds (low, high) for which clip(ρ, low, high) A = min(ρA, clip(ρ, 1 − clip_low, 1 + clip_high) A).

  The ratio is bounded above where A ≥ 0, and below (and by the dual clip above) where A < 0.
  """
  negative = advantages < 0
  low = jnp.where(negative, 1 - clip_low, 0.0)
  high = jnp.where(negative, jnp.inf if dual_clip is None else dual_clip, 1 + clip_high)
  return low, high


def clipped_exp(x: jax.Array, low: chex.Numeric = 0.0, high: chex.Numeric = jnp.inf) -> jax.Array:
  """clip(exp(x), low, high), and never more than e^MAX_LOG_RATIO."""
  low, high = (jnp.log(jnp.maximum(bound, 0)).astype(x.dtype) for bound in (low, high))
  return jnp.exp(jnp.clip(x, low, jnp.minimum(high, MAX_LOG_RATIO)))


def row_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
  """Mean over a row's counted tokens, [..., 1]; 0 for a row without any. x is 0 where masked."""
  count = jnp.sum(mask, axis=-1, keepdims=True)
  return masking.divide_or_zero(jnp.sum(x, axis=-1, keepdims=True), count)
