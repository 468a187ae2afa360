"""Policy-gradient surrogates and the weights that correct them for stale or mismatched samplers.

ρ_t = π_learner / π_old is the ratio of token t; A_t its advantage. Every function returns one loss per token, to be
minimised after an aggregate (`losses.aggregate`). Advantages, old and sampler logprobs are constants: no gradient flows
into them.

Deviations from the papers:
- Ratios are clipped as logarithms, exp(clip(log ρ, log low, log high)): the same numbers, but a ratio too large for the
  dtype is clipped before it overflows, so its gradient is 0 and not 0 · inf.
- GSPO's ratio is averaged over counted tokens, so tool output inside an answer does not enter it.
"""

from typing import Literal

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking


def clipped_surrogate(
  learner_logprobs: chex.Array,
  old_logprobs: chex.Array,
  advantages: chex.Array,
  mask: chex.Array,
  *,
  clip_low: chex.Numeric = 0.2,
  clip_high: chex.Numeric = 0.2,
  dual_clip: chex.Numeric | None = None,
) -> jax.Array:
  """PPO's clipped surrogate, with separate bounds (DAPO's clip-higher) and dual clip.

  loss_t = −min(ρ_t A_t, clip(ρ_t, 1 − clip_low, 1 + clip_high) A_t), and at most dual_clip |A_t| where A_t < 0.

  "Proximal Policy Optimization Algorithms" (arXiv:1707.06347), eq. 7; separate bounds: DAPO (arXiv:2503.14476), eq. 10;
  dual clip: "Mastering Complex Control in MOBA Games" (arXiv:1912.09729), "dual-clip PPO".

  Args:
    learner_logprobs: [B, T], log π_learner of each token; B stands for any leading axes.
    old_logprobs: [B, T], the learner's own at the start of the update.
    advantages: [B, T], or [B, 1] for one advantage per answer.
    mask: [B, T], bool or float, not 0 on counted tokens.
    clip_low: how far the ratio may fall under 1 before a negative advantage stops pushing it down.
    clip_high: how far the ratio may rise over 1 before a positive advantage stops pushing it up.
    dual_clip: where a negative advantage stops pushing down a ratio that is already large; over 1. None: nowhere.

  Returns:
    [B, T] losses in at least float32, 0 where the mask is 0.
  """
  mask, log_ratio, advantages = _log_ratio(learner_logprobs, old_logprobs, advantages, mask)
  ratio = _pessimistic_ratio(log_ratio, advantages, clip_low, clip_high, dual_clip)
  return jnp.where(mask, -ratio * advantages, 0)


def sequence_clipped_surrogate(
  learner_logprobs: chex.Array,
  old_logprobs: chex.Array,
  advantages: chex.Array,
  mask: chex.Array,
  *,
  clip_low: chex.Numeric = 0.2,
  clip_high: chex.Numeric = 0.2,
  dual_clip: chex.Numeric | None = None,
) -> jax.Array:
  """GSPO: the clipped surrogate with one length-normalised ratio per answer.

  s = (π_learner(y) / π_old(y))^{1/|y|} = exp(mean_t log ρ_t);  loss_t = −min(s A_t, clip(s) A_t)

  "Group Sequence Policy Optimization" (arXiv:2507.18071), eq. 5 and 7, whose bounds are much tighter than PPO's (3e-4
  and 4e-4) and whose aggregate is `sequence_mean`. The gradient is that of s, through every token of the answer,
  whatever the advantages; token-wise variants (the paper's GSPO-token) differ where advantages vary within an answer.

  Args:
    learner_logprobs: [B, T], log π_learner of each token; B stands for any leading axes.
    old_logprobs: [B, T], the learner's own at the start of the update.
    advantages: [B, T], or [B, 1] for one advantage per answer.
    mask: [B, T], bool or float, not 0 on counted tokens, over which the ratio is averaged.
    clip_low: how far the ratio may fall under 1.
    clip_high: how far the ratio may rise over 1.
    dual_clip: upper bound of the ratio where the advantage is negative; over 1. None: no bound.

  Returns:
    [B, T] losses in at least float32, 0 where the mask is 0.
  """
  mask, log_ratio, advantages = _log_ratio(learner_logprobs, old_logprobs, advantages, mask)
  ratio = _pessimistic_ratio(_row_mean(log_ratio, mask), advantages, clip_low, clip_high, dual_clip)
  return jnp.where(mask, -ratio * advantages, 0)


def clipped_importance_weight(
  learner_logprobs: chex.Array,
  old_logprobs: chex.Array,
  advantages: chex.Array,
  mask: chex.Array,
  *,
  clip_low: chex.Numeric | None = None,
  clip_high: chex.Numeric,
) -> jax.Array:
  """CISPO: REINFORCE with a clipped importance weight, so that no token loses its gradient to the clip.

  loss_t = −stop_gradient(clip(ρ_t, 1 − clip_low, 1 + clip_high)) A_t log π_learner,t

  "MiniMax-M1" (arXiv:2506.13585), eq. 4 and 5. Its value is no measure of progress, its gradient is what counts.

  Args:
    learner_logprobs: [B, T], log π_learner of each token; B stands for any leading axes.
    old_logprobs: [B, T], the learner's own at the start of the update.
    advantages: [B, T], or [B, 1] for one advantage per answer.
    mask: [B, T], bool or float, not 0 on counted tokens.
    clip_low: the weight is at least 1 − clip_low; None, as in the paper: no lower bound.
    clip_high: the weight is at most 1 + clip_high.

  Returns:
    [B, T] losses in at least float32, 0 where the mask is 0.
  """
  mask, log_ratio, advantages = _log_ratio(learner_logprobs, old_logprobs, advantages, mask)
  _, learner_logprobs = masking.counted(mask, learner_logprobs)
  low = 0.0 if clip_low is None else 1 - clip_low
  weight = jax.lax.stop_gradient(_clipped_exp(log_ratio, low, 1 + clip_high))
  return jnp.where(mask, -weight * advantages * learner_logprobs, 0)


def importance_correction(
  old_logprobs: chex.Array,
  sampler_logprobs: chex.Array,
  mask: chex.Array,
  *,
  level: Literal["token", "sequence", "geometric"] = "token",
  mode: Literal["truncate", "mask"] = "truncate",
  low: chex.Numeric | None = None,
  high: chex.Numeric,
) -> jax.Array:
  """Weights π_old / π_sampler for tokens drawn by an older policy or by an engine that computes differently.

  w_t = exp(d_t), exp(Σ_t d_t) or exp(mean_t d_t) with d = old − sampler, for level "token", "sequence" and "geometric".
  mode "truncate" gives clip(w, low, high); "mask" gives w inside [low, high] and 0 outside.

  The weights multiply the surrogate before the aggregate, `token_mean(weights * surrogate, mask)`: what is masked out
  here leaves the numerator only. Truncation: "Truncated Importance Sampling" for rollout engines (Yao et al., 2025,
  after arXiv:1802.01561, eq. 1); masking: IcePop (arXiv:2510.18855).

  Args:
    old_logprobs: [B, T], of the learner at the start of the update; B stands for any leading axes.
    sampler_logprobs: [B, T], from the engine when it drew the tokens.
    mask: [B, T], bool or float, not 0 on counted tokens.
    level: one weight per token, or one per answer from the sum or the mean over its counted tokens.
    mode: what happens outside the bounds.
    low: lower bound of the weights; None: 0.
    high: upper bound of the weights.

  Returns:
    [B, T] weights in at least float32, constants for the gradient, 0 where the mask is 0.
  """
  mask, old_logprobs, sampler_logprobs = masking.counted(mask, old_logprobs, sampler_logprobs)
  log_weight = old_logprobs - sampler_logprobs
  if level == "sequence":
    log_weight = jnp.broadcast_to(jnp.sum(log_weight, axis=-1, keepdims=True), mask.shape)
  elif level == "geometric":
    log_weight = jnp.broadcast_to(_row_mean(log_weight, mask), mask.shape)
  elif level != "token":
    raise ValueError(f"level: expected 'token', 'sequence' or 'geometric', found {level!r}")
  low = 0.0 if low is None else low
  weight = _clipped_exp(log_weight, low, high)
  if mode == "mask":
    # NaN is outside: a broken logprob must not pass as a weight.
    inside = (log_weight >= jnp.log(low)) & (log_weight <= jnp.log(high))
    weight = jnp.where(inside, weight, 0)
  elif mode != "truncate":
    raise ValueError(f"mode: expected 'truncate' or 'mask', found {mode!r}")
  return jax.lax.stop_gradient(jnp.where(mask, weight, 0))


def _log_ratio(learner_logprobs, old_logprobs, advantages, mask) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The bool mask, log ρ and the advantages spread over tokens, all [B, T] and 0 where masked."""
  chex.assert_equal_shape([learner_logprobs, old_logprobs, mask])
  *leading, length = jnp.shape(mask)
  chex.assert_shape(advantages, (*leading, {1, length}))
  advantages = jnp.broadcast_to(jnp.asarray(advantages), (*leading, length))
  old_logprobs, advantages = jax.lax.stop_gradient((old_logprobs, advantages))
  mask, learner_logprobs, old_logprobs, advantages = masking.counted(mask, learner_logprobs, old_logprobs, advantages)
  return mask, learner_logprobs - old_logprobs, advantages


def _pessimistic_ratio(log_ratio, advantages, clip_low, clip_high, dual_clip) -> jax.Array:
  """The ratio that min(ρA, clip(ρ)A) picks: bounded above where A ≥ 0, below (and by the dual clip) where A < 0."""
  negative = advantages < 0
  low = jnp.where(negative, 1 - clip_low, 0.0)
  high = jnp.where(negative, jnp.inf if dual_clip is None else dual_clip, 1 + clip_high)
  return _clipped_exp(log_ratio, low, high)


def _clipped_exp(log_ratio, low, high) -> jax.Array:
  """clip(exp(log_ratio), low, high), clipped before the exponential can overflow."""
  low, high = jnp.maximum(low, 0), jnp.asarray(high)
  return jnp.exp(jnp.clip(log_ratio, jnp.log(low).astype(log_ratio.dtype), jnp.log(high).astype(log_ratio.dtype)))


def _row_mean(x, mask) -> jax.Array:
  """Mean over a row's counted tokens, [..., 1]; 0 for a row without any."""
  count = jnp.sum(mask, axis=-1, keepdims=True)
  return masking.divide_or_zero(jnp.sum(x, axis=-1, keepdims=True), count)
