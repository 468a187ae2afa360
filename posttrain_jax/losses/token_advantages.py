"""Advantages per token: whitening over a batch, REINFORCE++, generalised advantage estimation and distillation.

Masked positions (padding, tool output) are skipped: what comes after a hole follows directly on what came before it,
without a step of discount in between. They are 0 in every result.
"""

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import group_advantages, masking
from posttrain_jax.losses import rewards as reward_shaping


def whiten(
  x: chex.Array, mask: chex.Array, *, ddof: int = 0, epsilon: float = 0.0, shift_mean: bool = True
) -> jax.Array:
  """Shifts and scales to mean 0 and variance 1 over all counted tokens.

  (x − mean) / √(variance + epsilon), plus the mean where shift_mean is False

  Args:
    x: [B, T]; B stands for any leading axes.
    mask: [B, T], bool or float, not 0 on counted tokens.
    ddof: the variance divides by the number of counted tokens minus this.
    epsilon: added to the variance.
    shift_mean: False keeps the mean where it was and scales the distance from it only, as is done to the rewards of PPO
      (OpenAI's "lm-human-preferences", TRL and verl).

  Returns:
    [B, T] in at least float32, a constant, 0 where the mask is 0; all zeros (all equal to the mean without shift_mean)
    where the counted values are equal or differ by rounding alone (a standard deviation of at most
    8 eps(dtype) max|x|).
  """
  mask, x = masking.counted(mask, x)
  # One group that holds every token.
  centered = group_advantages.group_centered(x.reshape(1, -1), valid=mask.reshape(1, -1)).reshape(x.shape)
  variance = masking.divide_or_zero(jnp.sum(jnp.square(centered)), jnp.maximum(jnp.sum(mask) - ddof, 0))
  differs = jnp.sqrt(variance) > 8 * jnp.finfo(x.dtype).eps * jnp.max(jnp.abs(x))
  whitened = jnp.where(differs, centered / jnp.sqrt(jnp.where(differs, variance + epsilon, 1)), 0)
  if shift_mean:
    return whitened
  mean = jax.lax.stop_gradient(masking.divide_or_zero(jnp.sum(x), jnp.sum(mask)))
  return jnp.where(mask, whitened + mean, 0)


def reinforce_plus_plus(
  rewards: chex.Array,
  old_logprobs: chex.Array,
  reference_logprobs: chex.Array,
  mask: chex.Array,
  *,
  kl_coefficient: chex.Numeric,
  discount: chex.Numeric = 1.0,
  ddof: int = 0,
  epsilon: float = 0.0,
) -> jax.Array:
  """REINFORCE++: the reward minus the KL still to come, whitened over the whole batch, with no critic and no groups.

  A_t = r − β Σ_{i≥t} (log π_old,i − log π_reference,i), then (A − mean(A)) / √(var(A) + epsilon) over counted tokens

  "REINFORCE++" (arXiv:2501.03262). With a discount, A_t is the discounted sum of `token_rewards`.

  Args:
    rewards: [B], one per answer; B stands for any leading axes. All of them form the batch.
    old_logprobs: [B, T], of the learner at the start of the update.
    reference_logprobs: [B, T].
    mask: [B, T], bool or float, not 0 on counted tokens.
    kl_coefficient: β.
    discount: γ, per counted token.
    ddof: the variance divides by the number of counted tokens minus this.
    epsilon: added to the variance.

  Returns:
    [B, T] advantages in at least float32, 0 where the mask is 0.
  """
  mask, old_logprobs, reference_logprobs = masking.counted(mask, old_logprobs, reference_logprobs)
  token_rewards = reward_shaping.token_rewards(
    rewards, mask, kl=old_logprobs - reference_logprobs, kl_coefficient=kl_coefficient
  )
  # With no values and λ = 1, GAE is the discounted sum of what is still to come.
  advantages, _ = gae(token_rewards, jnp.zeros_like(token_rewards), mask, discount=discount, lam=1.0)
  return whiten(advantages, mask, ddof=ddof, epsilon=epsilon)


def reinforce_plus_plus_baseline(
  rewards: chex.Array, mask: chex.Array, *, ddof: int = 0, epsilon: float = 0.0, valid: chex.Array | None = None
) -> jax.Array:
  """REINFORCE++ with baseline: a reward minus its group's mean, whitened over the tokens of the whole batch.

  A = r − mean_group(r), then (A − mean(A)) / √(var(A) + epsilon) over counted tokens

  "REINFORCE++" (arXiv:2501.03262), the variant with a group baseline. Its KL is a separate k2 loss (`losses.kl`).

  Args:
    rewards: [P, G].
    mask: [P, G, T], bool or float, not 0 on counted tokens.
    ddof: the variance divides by the number of counted tokens minus this.
    epsilon: added to the variance.
    valid: [P, G], bool or float, not 0 where there is a reward; None: all. Answers without one have advantage 0 and are
      left out of the mean and the variance.

  Returns:
    [P, G, T] advantages in at least float32, 0 where the mask is 0.
  """
  chex.assert_shape(mask, (*jnp.shape(rewards), None))
  valid = jnp.ones(jnp.shape(rewards), bool) if valid is None else jnp.asarray(valid).astype(bool)
  mask = jnp.asarray(mask).astype(bool) & valid[..., None]
  centered = group_advantages.group_centered(rewards, valid=valid)
  return whiten(jnp.broadcast_to(centered[..., None], mask.shape), mask, ddof=ddof, epsilon=epsilon)


def gae(
  token_rewards: chex.Array,
  values: chex.Array,
  mask: chex.Array,
  *,
  discount: chex.Numeric,
  lam: chex.Numeric,
  lam_policy: chex.Numeric | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Generalised advantage estimation, and the returns that the value function is trained on.

  δ_t = r_t + γ V_{t+1} − V_t;  A_t = δ_t + γ λ A_{t+1};  R_t = A_t + V_t

  "High-Dimensional Continuous Control Using Generalized Advantage Estimation" (arXiv:1506.02438), eq. 16. A separate λ
  for the policy (`length_adaptive_lambda`): VAPO (arXiv:2504.05118).

  The value after an answer's last counted token is 0, so a truncated answer is treated as a finished one.

  Args:
    token_rewards: [B, T] (`losses.rewards.token_rewards`); B stands for any leading axes.
    values: [B, T]; values[t] is V before token t.
    mask: [B, T], bool or float, not 0 on counted tokens. At a hole V_{t+1} and A_{t+1} are those of the next counted
      token.
    discount: γ.
    lam: λ of the returns, and of the advantages too unless lam_policy is given.
    lam_policy: λ of the advantages: a scalar, or [B] with one per answer.

  Returns:
    (advantages, returns), each [B, T] in at least float32, 0 where the mask is 0.
  """
  mask, token_rewards, values = masking.counted(mask, token_rewards, values)
  leading = mask.shape[:-1]
  lam_policy = jnp.asarray(lam if lam_policy is None else lam_policy, values.dtype)
  chex.assert_is_broadcastable(lam_policy.shape, leading)
  lams = jnp.stack([jnp.full(leading, lam, values.dtype), jnp.broadcast_to(lam_policy, leading)])

  def step(carry, now):
    next_value, next_advantages = carry  # [B]; [2, B], one with each λ
    reward, value, is_counted = now
    delta = reward + discount * next_value - value
    advantages = delta[None] + discount * lams * next_advantages
    carry = (jnp.where(is_counted, value, next_value), jnp.where(is_counted[None], advantages, next_advantages))
    return carry, jnp.where(is_counted[None], advantages, 0)

  first = (jnp.zeros(leading, values.dtype), jnp.zeros((2, *leading), values.dtype))
  over_time = tuple(jnp.moveaxis(x, -1, 0) for x in (token_rewards, values, mask))
  _, advantages = jax.lax.scan(step, first, over_time, reverse=True)
  for_returns, for_policy = jnp.moveaxis(advantages, 0, -1)
  return jax.lax.stop_gradient((for_policy, jnp.where(mask, for_returns + values, 0)))


def length_adaptive_lambda(lengths: chex.Array, *, alpha: chex.Numeric = 0.05) -> jax.Array:
  """VAPO's λ of the policy's advantages, nearer to 1 the longer the answer, so that its end still reaches its start.

  λ = clip(1 − 1 / (alpha · length), 0, 1), so that the weights of the errors, Σ_k λ^k, sum to alpha · length

  "VAPO" (arXiv:2504.05118), length-adaptive GAE. Deviation: the paper's formula is negative for lengths below 1 / alpha
  (20 tokens); here it is 0.

  Args:
    lengths: counted tokens of each answer, any shape, usually [B].
    alpha: how much of the answer the weights add up to.

  Returns:
    λ of the same shape, in at least float32, for `gae`'s lam_policy; 0 for an answer without tokens.
  """
  lengths = jnp.asarray(lengths)
  summed = alpha * lengths.astype(masking.at_least_float32(lengths))
  return 1 - 1 / jnp.maximum(summed, 1)  # the clip's lower end, without a division by 0


def distillation(old_logprobs: chex.Array, teacher_logprobs: chex.Array, mask: chex.Array) -> jax.Array:
  """On-policy distillation: how much likelier a teacher finds each token that the student drew.

  A_t = log π_teacher,t − log π_old,t

  With `losses.policy.reinforce` (or a clipped surrogate) the gradient is, on average, that of the per-token reverse
  KL(student ‖ teacher) on the student's own answers: GKD (arXiv:2306.13649) with the reverse KL and only student data,
  estimated from the drawn token in place of the whole vocabulary. A token is not charged for what it leads to: the
  single-step part of MiniLLM's gradient (arXiv:2306.08543), whose long-term part this leaves out (a discount of 0).

  Args:
    old_logprobs: [B, T], the student's at the start of the update; B stands for any leading axes.
    teacher_logprobs: [B, T], of the same tokens, finite where counted.
    mask: [B, T], bool or float, not 0 on counted tokens.

  Returns:
    [B, T] advantages in nats, in at least float32, 0 where the mask is 0.
  """
  _, old_logprobs, teacher_logprobs = masking.counted(mask, old_logprobs, teacher_logprobs)
  return jax.lax.stop_gradient(teacher_logprobs - old_logprobs)
