"""Computes surrogates that hold back the few tokens which lower the policy's entropy most.

A policy gradient lowers the entropy by the covariance of logprob and advantage: likely tokens of good answers lower it
most. Token by token, over the N counted tokens of the arrays given,

  c_t = (log π_learner,t − mean log π_learner) (A_t − mean A)

"The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models" (arXiv:2505.22617), section 4.2.

The means and the choice of tokens are those of the micro-batch given. So these losses, unlike all others of
`losses.policy`, depend on how an update is cut into micro-batches. Both hold at least one token however small N is, as
verl does. With a share of 2e-4 and micro-batches of fewer than 5,000 tokens, the share held is larger than asked for.
"""

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking
from posttrain_jax.losses.policy_ratios import clipped_exp, log_ratio, pessimistic_bounds


def clip_cov(
  learner_logprobs: chex.Array,
  old_logprobs: chex.Array,
  advantages: chex.Array,
  mask: chex.Array,
  *,
  clip_low: chex.Numeric = 0.2,
  clip_high: chex.Numeric = 0.2,
  dual_clip: chex.Numeric | None = None,
  share: chex.Numeric = 2e-4,
  cov_low: chex.Numeric = 1.0,
  cov_high: chex.Numeric = 5.0,
  key: chex.PRNGKey | None = None,
) -> jax.Array:
  """Computes Clip-Cov: PPO's clipped surrogate without the gradient of a few tokens of high covariance.

  loss_t = 0 for t in I, elsewhere that of `clipped_surrogate`;  I: max(1, ⌊share · N⌋) tokens, if there are as many,
  with cov_low < c_t < cov_high

  Tokens that the ratio clip already holds are not chosen. A chosen token stays in the aggregate's denominator.

  Deviation: the paper draws I uniformly from the band. Without a key the largest covariances in the band are taken, so
  the loss is a function of its arguments alone.

  Args:
    learner_logprobs: [B, T], log π_learner of each token; B stands for any leading axes.
    old_logprobs: [B, T], the learner's own at the start of the update.
    advantages: [B, T], or [B, 1] for one advantage per answer.
    mask: [B, T], bool or float, not 0 on counted tokens.
    clip_low: as in `clipped_surrogate`.
    clip_high: as in `clipped_surrogate`.
    dual_clip: as in `clipped_surrogate`.
    share: of the counted tokens, the largest part that is chosen.
    cov_low: lower end of the band, not in it; in the paper hundreds of times the mean.
    cov_high: upper end of the band, not in it.
    key: for a uniform draw from the band; None: the band's largest covariances.

  Returns:
    [B, T] losses in at least float32, 0 where the mask is 0.
  """
  mask, log_rho, advantages = log_ratio(learner_logprobs, old_logprobs, advantages, mask)
  low, high = pessimistic_bounds(advantages, clip_low, clip_high, dual_clip)
  moving = (log_rho >= jnp.log(low)) & (log_rho <= jnp.log(high))
  covariance = _covariance(learner_logprobs, advantages, mask)
  eligible = mask & moving & (covariance > cov_low) & (covariance < cov_high)
  order = covariance if key is None else jax.random.uniform(key, mask.shape)
  held = _largest(order, eligible, _count(mask, share))
  return jnp.where(mask & ~held, -clipped_exp(log_rho, low, high) * advantages, 0)


def kl_cov(
  learner_logprobs: chex.Array,
  old_logprobs: chex.Array,
  advantages: chex.Array,
  mask: chex.Array,
  *,
  share: chex.Numeric = 2e-4,
  penalty: chex.Numeric = 1.0,
) -> jax.Array:
  """Computes KL-Cov: the unclipped surrogate with a penalty on moving the tokens of highest covariance.

  loss_t = −ρ_t A_t + [t in I] penalty |log ρ_t|;  I: the max(1, ⌊share · N⌋) tokens of the largest c_t

  Deviation: the paper writes the penalty as KL(π_old ‖ π_learner); its authors' code and verl use |log ρ|. The
  penalty's gradient is 0 where ρ = 1, so the first update of a batch, which is on-policy, is plain REINFORCE.

  Args:
    learner_logprobs: [B, T], log π_learner of each token; B stands for any leading axes.
    old_logprobs: [B, T], the learner's own at the start of the update.
    advantages: [B, T], or [B, 1] for one advantage per answer.
    mask: [B, T], bool or float, not 0 on counted tokens.
    share: of the counted tokens, the part that is penalised.
    penalty: what one nat of |log ρ| costs.

  Returns:
    [B, T] losses in at least float32, 0 where the mask is 0.
  """
  mask, log_rho, advantages = log_ratio(learner_logprobs, old_logprobs, advantages, mask)
  held = _largest(_covariance(learner_logprobs, advantages, mask), mask, _count(mask, share))
  distance = log_rho * jax.lax.stop_gradient(jnp.sign(log_rho))  # jnp.abs has gradient 1, not 0, at 0
  cost = jnp.where(held, penalty * distance, 0)
  return jnp.where(mask, cost - clipped_exp(log_rho) * advantages, 0)


def _covariance(learner_logprobs: chex.Array, advantages: jax.Array, mask: jax.Array) -> jax.Array:
  """Returns c_t of every counted token, [B, T], a constant."""
  mask, learner_logprobs, advantages = masking.counted(mask, learner_logprobs, advantages)
  logprob, advantage = (_minus_mean(x, mask) for x in (learner_logprobs, advantages))
  return jax.lax.stop_gradient(logprob * advantage)


def _minus_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
  return x - masking.divide_or_zero(jnp.sum(x), jnp.sum(mask))


def _count(mask: jax.Array, share: chex.Numeric) -> jax.Array:
  return jnp.maximum(jnp.floor(share * jnp.sum(mask)), 1)


def _largest(x: jax.Array, eligible: jax.Array, count: jax.Array) -> jax.Array:
  """Marks the `count` largest eligible entries, of equal ones the first: bool, of x's shape."""
  descending = jnp.argsort(-jnp.where(eligible, x, -jnp.inf), axis=None)
  rank = jnp.zeros_like(descending).at[descending].set(jnp.arange(descending.size, dtype=descending.dtype))
  return eligible & (rank < count).reshape(x.shape)
