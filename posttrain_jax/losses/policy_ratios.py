"""Computes ratios of learner to old policy, masked and clipped as logarithms.

exp(clip(log ρ, log low, log high)) equals clip(ρ, low, high). But a ratio that is too large for the dtype is clipped
before it overflows, so its gradient is 0 and not 0 · inf.
"""

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking

# Every ratio is at most e²⁰, as in verl. If nothing else bounds it (a negative advantage without dual clip), the square
# of the gradient, as in its norm, would overflow long before the ratio does.
MAX_LOG_RATIO = 20.0


def log_ratio(
  learner_logprobs: chex.Array, old_logprobs: chex.Array, advantages: chex.Array, mask: chex.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Checks and masks the arguments of a surrogate, and computes the log ratio.

  Old logprobs and advantages become constants: no gradient flows into them.

  Args:
    learner_logprobs: float [B, T]; B stands for any leading axes.
    old_logprobs: float [B, T].
    advantages: float [B, T], or [B, 1] for one advantage per answer.
    mask: [B, T], bool or float, not 0 on counted tokens.

  Returns:
    (the bool mask, log ρ = learner − old, the advantages spread over tokens), all [B, T]. The last two are in at least
    float32 and 0 where the mask is 0.

  Raises:
    AssertionError: if the shapes do not fit each other.
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
  """Returns the bounds of a clip that equals PPO's minimum of two terms.

  With these (low, high), clip(ρ, low, high) A = min(ρA, clip(ρ, 1 − clip_low, 1 + clip_high) A).

  PPO (arXiv:1707.06347), eq. 7; dual clip: arXiv:1912.09729. If A ≥ 0, the ratio has an upper bound. If A < 0,
  it has a lower bound, and the dual clip is its upper bound.

  Args:
    advantages: float, any shape.
    clip_low: the lower bound is 1 − clip_low.
    clip_high: the upper bound is 1 + clip_high.
    dual_clip: upper bound of the ratio for negative advantages; None: no bound.

  Returns:
    (low, high), both of the advantages' shape.
  """
  negative = advantages < 0
  low = jnp.where(negative, 1 - clip_low, 0.0)
  high = jnp.where(negative, jnp.inf if dual_clip is None else dual_clip, 1 + clip_high)
  return low, high


def clipped_exp(x: jax.Array, low: chex.Numeric = 0.0, high: chex.Numeric = jnp.inf) -> jax.Array:
  """Computes clip(exp(x), low, high), with e^MAX_LOG_RATIO as an upper bound."""
  low, high = (jnp.log(jnp.maximum(bound, 0)).astype(x.dtype) for bound in (low, high))
  return jnp.exp(jnp.clip(x, low, jnp.minimum(high, MAX_LOG_RATIO)))


def row_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
  """Computes the mean over each row's counted tokens.

  Args:
    x: float [..., T], 0 where masked.
    mask: bool [..., T].

  Returns:
    [..., 1]; 0 for a row without a counted token.
  """
  count = jnp.sum(mask, axis=-1, keepdims=True)
  return masking.divide_or_zero(jnp.sum(x, axis=-1, keepdims=True), count)
