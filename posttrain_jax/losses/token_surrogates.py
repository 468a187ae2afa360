"""Computes surrogates of the policy gradient with one ratio per token.

`losses.policy` says what all surrogates share.
"""

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking
from posttrain_jax.losses.policy_ratios import clipped_exp, log_ratio, pessimistic_bounds
from posttrain_jax.losses.surrogate import per_token_surrogate


@per_token_surrogate
def reinforce(
  learner_logprobs: chex.Array, old_logprobs: chex.Array, advantages: chex.Array, mask: chex.Array
) -> jax.Array:
  """Computes REINFORCE: the log-likelihood weighted by the advantage, without a ratio.

  loss_t = −A_t log π_learner,t

  "Simple statistical gradient-following algorithms for connectionist reinforcement learning" (Williams, 1992). It is
  right on-policy only, that is for one update per batch. `importance_correction` corrects for a sampler that differs
  from the learner. The value of this loss does not measure progress; only its gradient has a meaning. With advantages
  of 1 and 0 (`losses.advantages.positive_only`) it is fine-tuning on the right answers.

  Args:
    learner_logprobs: [B, T], log π_learner of each token; B stands for any leading axes.
    old_logprobs: [B, T]; not used, so that every surrogate takes the same arguments.
    advantages: [B, T], or [B, 1] for one advantage per answer.
    mask: [B, T], bool or float, not 0 on counted tokens.

  Returns:
    [B, T] losses in at least float32, 0 where the mask is 0.
  """
  mask, _, advantages = log_ratio(learner_logprobs, old_logprobs, advantages, mask)
  _, learner_logprobs = masking.counted(mask, learner_logprobs)
  return jnp.where(mask, -advantages * learner_logprobs, 0)


@per_token_surrogate
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
  """Computes PPO's clipped surrogate, with separate bounds (DAPO's clip-higher) and dual clip.

  loss_t = −min(ρ_t A_t, clip(ρ_t, 1 − clip_low, 1 + clip_high) A_t), and at most dual_clip |A_t| where A_t < 0.

  "Proximal Policy Optimization Algorithms" (arXiv:1707.06347), eq. 7; separate bounds: DAPO (arXiv:2503.14476), eq. 10;
  dual clip: "Mastering Complex Control in MOBA Games" (arXiv:1912.09729), "dual-clip PPO".

  Args:
    learner_logprobs: [B, T], log π_learner of each token; B stands for any leading axes.
    old_logprobs: [B, T], the learner's own at the start of the update.
    advantages: [B, T], or [B, 1] for one advantage per answer.
    mask: [B, T], bool or float, not 0 on counted tokens.
    clip_low: how far the ratio may fall below 1 before a negative advantage stops pushing it down.
    clip_high: how far the ratio may rise above 1 before a positive advantage stops pushing it up.
    dual_clip: ratio above which a negative advantage stops pushing it down; more than 1. None: no such bound.

  Returns:
    [B, T] losses in at least float32, 0 where the mask is 0.
  """
  mask, log_rho, advantages = log_ratio(learner_logprobs, old_logprobs, advantages, mask)
  ratio = clipped_exp(log_rho, *pessimistic_bounds(advantages, clip_low, clip_high, dual_clip))
  return jnp.where(mask, -ratio * advantages, 0)


@per_token_surrogate
def clipped_importance_weight(
  learner_logprobs: chex.Array,
  old_logprobs: chex.Array,
  advantages: chex.Array,
  mask: chex.Array,
  *,
  clip_low: chex.Numeric | None = None,
  clip_high: chex.Numeric,
) -> jax.Array:
  """Computes CISPO: REINFORCE with a clipped importance weight.

  No token loses its gradient to the clip.

  loss_t = −stop_gradient(clip(ρ_t, 1 − clip_low, 1 + clip_high)) A_t log π_learner,t

  "MiniMax-M1" (arXiv:2506.13585), eq. 4 and 5. The value of this loss does not measure progress; only its gradient has
  a meaning.

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
  mask, log_rho, advantages = log_ratio(learner_logprobs, old_logprobs, advantages, mask)
  _, learner_logprobs = masking.counted(mask, learner_logprobs)
  low = 0.0 if clip_low is None else 1 - clip_low
  weight = jax.lax.stop_gradient(clipped_exp(log_rho, low, 1 + clip_high))
  return jnp.where(mask, -weight * advantages * learner_logprobs, 0)


@per_token_surrogate
def soft_gated_surrogate(
  learner_logprobs: chex.Array,
  old_logprobs: chex.Array,
  advantages: chex.Array,
  mask: chex.Array,
  *,
  tau_pos: chex.Numeric = 1.0,
  tau_neg: chex.Numeric = 1.05,
) -> jax.Array:
  """Computes SAPO: a smooth gate instead of the clip.

  The gradient fades as the ratio moves away from 1 on either side.

  loss_t = −(4/τ) σ(τ (ρ_t − 1)) A_t, with τ = tau_pos where A_t > 0 and tau_neg elsewhere

  "Soft Adaptive Policy Optimization" (arXiv:2511.20347), whose aggregate is `sequence_mean`. At ρ = 1 the value is
  −(2/τ) A and the gradient that of REINFORCE, whatever τ.

  Args:
    learner_logprobs: [B, T], log π_learner of each token; B stands for any leading axes.
    old_logprobs: [B, T], the learner's own at the start of the update.
    advantages: [B, T], or [B, 1] for one advantage per answer.
    mask: [B, T], bool or float, not 0 on counted tokens.
    tau_pos: how steep the gate is where the advantage is positive; more than 0, and the larger, the narrower.
    tau_neg: the same where it is not. If it is larger than tau_pos, pushing tokens down fades sooner; pushing a token
      down raises all others.

  Returns:
    [B, T] losses in at least float32, 0 where the mask is 0.
  """
  mask, log_rho, advantages = log_ratio(learner_logprobs, old_logprobs, advantages, mask)
  tau = jnp.where(advantages > 0, tau_pos, tau_neg).astype(log_rho.dtype)
  gate = 4 / tau * jax.nn.sigmoid(tau * (clipped_exp(log_rho) - 1))
  return jnp.where(mask, -gate * advantages, 0)
