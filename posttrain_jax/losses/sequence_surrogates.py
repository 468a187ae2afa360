"""Computes surrogates of the policy gradient with one ratio per answer.

`losses.policy` says what all surrogates share. Each token of an answer has the answer's loss, so `sequence_mean` gives
the papers' objectives.

Deviation from the papers: ratios are averaged over counted tokens, so tool output inside an answer has no part in
them.
"""

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses.policy_ratios import clipped_exp, log_ratio, pessimistic_bounds, row_mean


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
  """Computes GSPO: the clipped surrogate with one length-normalised ratio per answer.

  s = (π_learner(y) / π_old(y))^{1/|y|} = exp(mean_t log ρ_t);  loss_t = −min(s A_t, clip(s) A_t)

  "Group Sequence Policy Optimization" (arXiv:2507.18071), eq. 5 and 7, whose bounds are much tighter than PPO's (3e-4
  and 4e-4) and whose aggregate is `sequence_mean`. The gradient is that of s, through every token of the answer,
  whatever the advantages; token-wise variants (the paper's GSPO-token) differ where advantages vary within an answer.

  Args:
    learner_logprobs: [B, T], log π_learner of each token; B stands for any leading axes.
    old_logprobs: [B, T], the learner's own at the start of the update.
    advantages: [B, T], or [B, 1] for one advantage per answer.
    mask: [B, T], bool or float, not 0 on counted tokens, over which the ratio is averaged.
    clip_low: how far the ratio may fall below 1.
    clip_high: how far the ratio may rise above 1.
    dual_clip: upper bound of the ratio where the advantage is negative; more than 1. None: no bound.

  Returns:
    [B, T] losses in at least float32, 0 where the mask is 0.
  """
  mask, log_rho, advantages = log_ratio(learner_logprobs, old_logprobs, advantages, mask)
  ratio = clipped_exp(row_mean(log_rho, mask), *pessimistic_bounds(advantages, clip_low, clip_high, dual_clip))
  return jnp.where(mask, -ratio * advantages, 0)


def geometric_mean_surrogate(
  learner_logprobs: chex.Array,
  old_logprobs: chex.Array,
  advantages: chex.Array,
  mask: chex.Array,
  *,
  clip_low: chex.Numeric = 0.4,
  clip_high: chex.Numeric = 0.4,
) -> jax.Array:
  """Computes GMPO: the geometric mean of an answer's clipped token ratios.

  One outlier weighs little in it.

  s = exp(mean_t l_t);  l_t = min(log ρ_t, clip_high) where A_t ≥ 0, max(log ρ_t, −clip_low) where A_t < 0;
  loss_t = −s A_t

  "Geometric-Mean Policy Optimization" (arXiv:2507.20673), whose aggregate is `sequence_mean`. GSPO clips
  the mean; GMPO clips the tokens. The paper has one advantage per answer. If advantages vary within an answer, their
  mean multiplies s in a `sequence_mean`.

  Args:
    learner_logprobs: [B, T], log π_learner of each token; B stands for any leading axes.
    old_logprobs: [B, T], the learner's own at the start of the update.
    advantages: [B, T], or [B, 1] for one advantage per answer.
    mask: [B, T], bool or float, not 0 on counted tokens, over which the mean is taken.
    clip_low: how far a token's log ratio, not its ratio, may fall below 0.
    clip_high: how far a token's log ratio may rise above 0. The paper's bounds are exp(±0.4), wider than PPO's.

  Returns:
    [B, T] losses in at least float32, 0 where the mask is 0.
  """
  mask, log_rho, advantages = log_ratio(learner_logprobs, old_logprobs, advantages, mask)
  clipped = jnp.where(advantages < 0, jnp.maximum(log_rho, -clip_low), jnp.minimum(log_rho, clip_high))
  return jnp.where(mask, -clipped_exp(row_mean(clipped, mask)) * advantages, 0)
