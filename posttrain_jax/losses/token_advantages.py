"""Computes advantages per token.

It has whitening over a batch, REINFORCE++, generalised advantage estimation and on-policy distillation.

Masked positions (padding, tool output) are skipped: the token after a hole follows directly on the token before it,
without a step of discount for the hole. Every result is 0 at masked positions.
"""

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import group_advantages, masking
from posttrain_jax.losses import rewards as reward_shaping
from posttrain_jax.losses.two_sum import two_sum


def whiten(
  x: chex.Array, mask: chex.Array, *, ddof: int = 0, epsilon: float = 0.0, shift_mean: bool = True
) -> jax.Array:
  """Shifts and scales to mean 0 and variance 1 over all counted tokens.

  (x − mean) / √(variance + epsilon), plus the mean if shift_mean is False

  Args:
    x: float [B, T]; B stands for any leading axes.
    mask: [B, T], bool or float, not 0 on counted tokens.
    ddof: the variance divides by the number of counted tokens minus this.
    epsilon: added to the variance.
    shift_mean: False keeps the mean and scales only the distance from it, as OpenAI's "lm-human-preferences", TRL and
      verl do with PPO's rewards.

  Returns:
    [B, T] in at least float32, a constant, 0 where the mask is 0. If the counted values are equal or differ by rounding
    alone (a standard deviation of at most 8 eps(dtype) max|x|), counted entries are 0 (without shift_mean: the mean).
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
  """Subtracts the KL of the remaining tokens from the reward, and whitens (REINFORCE++).

  A_t = r − β Σ_{i≥t} (log π_old,i − log π_reference,i), then (A − mean(A)) / √(var(A) + epsilon) over counted tokens

  "REINFORCE++" (arXiv:2501.03262). It needs no critic and no groups. With a discount, A_t is the discounted sum of
  `losses.rewards.token_rewards`.

  Args:
    rewards: float [B], one per answer; B stands for any leading axes. All of them form the batch.
    old_logprobs: float [B, T], the learner's at the start of the update.
    reference_logprobs: float [B, T].
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
  # With values of 0 and λ = 1, GAE is the discounted sum of the rewards from t on.
  advantages, _ = gae(token_rewards, jnp.zeros_like(token_rewards), mask, discount=discount, lam=1.0)
  return whiten(advantages, mask, ddof=ddof, epsilon=epsilon)


def reinforce_plus_plus_baseline(
  rewards: chex.Array, mask: chex.Array, *, ddof: int = 0, epsilon: float = 0.0, valid: chex.Array | None = None
) -> jax.Array:
  """Subtracts the group's mean reward, and whitens (REINFORCE++ with baseline).

  A = r − mean_group(r), then (A − mean(A)) / √(var(A) + epsilon) over counted tokens

  "REINFORCE++" (arXiv:2501.03262), the variant with a group baseline. Its KL is a separate k2 loss (`losses.kl`).

  Args:
    rewards: float [P, G].
    mask: [P, G, T], bool or float, not 0 on counted tokens.
    ddof: the variance divides by the number of counted tokens minus this.
    epsilon: added to the variance.
    valid: [P, G], bool or float, not 0 for answers with a reward; None: all have one. Answers without a reward have
      advantage 0 and are left out of the mean and the variance.

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
  """Computes generalised advantages, and the returns that train the value function.

  δ_t = r_t + γ V_{t+1} − V_t;  A_t = δ_t + γ λ A_{t+1};  R_t = A_t + V_t

  "High-Dimensional Continuous Control Using Generalized Advantage Estimation" (arXiv:1506.02438), eq. 16. A separate λ
  for the policy (`length_adaptive_lambda`): VAPO (arXiv:2504.05118).

  The value after an answer's last counted token is 0, so a truncated answer is treated like a finished one.

  Args:
    token_rewards: float [B, T] (`losses.rewards.token_rewards`); B stands for any leading axes.
    values: float [B, T]; values[t] is V before token t.
    mask: [B, T], bool or float, not 0 on counted tokens. Before a hole, V_{t+1} and A_{t+1} are those of the next
      counted token.
    discount: γ.
    lam: λ of the returns, and of the advantages too if lam_policy is None.
    lam_policy: λ of the advantages: a scalar, or float [B] with one per answer.

  Returns:
    (advantages, returns), each [B, T] in at least float32, 0 where the mask is 0.
  """
  mask, token_rewards, values = masking.counted(mask, token_rewards, values)
  leading = mask.shape[:-1]
  lam_policy = lam if lam_policy is None else lam_policy
  chex.assert_is_broadcastable(jnp.shape(lam_policy), leading)
  # What is missing to 1, from numbers that are not rounded yet: 1 - 0.9999 in float32 is right to four digits only.
  missing = jnp.stack([jnp.broadcast_to(jnp.asarray(1 - each, values.dtype), leading) for each in (lam, lam_policy)])
  shrink = (1 - discount) + discount * missing  # 1 − γλ

  # R_t = r_t + γ ((1 − λ) V_{t+1} + λ R_{t+1}), which is A_t + V_t. No value is added and subtracted again, and what
  # each addition loses is kept: answers have tens of thousands of tokens.
  def step(carry, now):
    next_value, next_returns, next_lost = carry  # [B]; [2, B] twice, one with each λ
    reward, value, is_counted = now
    shrunk, first = two_sum(next_returns, -shrink * next_returns)
    returns, second = two_sum(shrunk, reward[None] + discount * missing * next_value[None])
    lost = first + second + next_lost - shrink * next_lost
    advantages = (returns - value[None]) + lost
    carry = (
      jnp.where(is_counted, value, next_value),
      jnp.where(is_counted[None], returns, next_returns),
      jnp.where(is_counted[None], lost, next_lost),
    )
    return carry, advantages

  zeros = jnp.zeros((2, *leading), values.dtype)
  over_time = tuple(jnp.moveaxis(x, -1, 0) for x in (token_rewards, values, mask))
  _, advantages = jax.lax.scan(step, (zeros[0], zeros, zeros), over_time, reverse=True)
  for_returns, for_policy = jnp.where(mask, jnp.moveaxis(advantages, 0, -1), 0)
  return jax.lax.stop_gradient((for_policy, jnp.where(mask, for_returns + values, 0)))


def length_adaptive_lambda(lengths: chex.Array, *, alpha: chex.Numeric = 0.05) -> jax.Array:
  """Computes VAPO's λ of the policy's advantages, which grows with the answer's length.

  λ = clip(1 − 1 / (alpha · length), 0, 1), so the weights of the errors, Σ_k λ^k, sum to alpha · length

  "VAPO" (arXiv:2504.05118), length-adaptive GAE. With a longer answer λ is closer to 1, so the answer's end still
  reaches its start. Deviation: the paper's formula is negative for lengths below 1 / alpha (20 tokens); here λ is 0.

  Args:
    lengths: int or float, any shape, usually [B]: counted tokens of each answer.
    alpha: sum of the weights as a share of the answer's length.

  Returns:
    λ of the same shape, in at least float32, for `gae`'s lam_policy; 0 for an answer without tokens.
  """
  lengths = jnp.asarray(lengths)
  summed = alpha * lengths.astype(masking.at_least_float32(lengths))
  return 1 - 1 / jnp.maximum(summed, 1)  # the clip's lower end, without a division by 0


def distillation(old_logprobs: chex.Array, teacher_logprobs: chex.Array, mask: chex.Array) -> jax.Array:
  """Computes the teacher's minus the student's logprob of each drawn token.

  A_t = log π_teacher,t − log π_old,t

  On-policy distillation. With `losses.policy.reinforce` (or a clipped surrogate) the expected gradient is that of the
  per-token reverse KL(student ‖ teacher) on the student's own answers. This is GKD (arXiv:2306.13649) with the reverse
  KL and only student data, estimated from the drawn token instead of the whole vocabulary. A token's advantage leaves
  out the tokens after it (a discount of 0): this is the single-step part of MiniLLM's gradient (arXiv:2306.08543),
  without the long-term part.

  Args:
    old_logprobs: float [B, T], the student's at the start of the update; B stands for any leading axes.
    teacher_logprobs: float [B, T], of the same tokens, finite on counted tokens.
    mask: [B, T], bool or float, not 0 on counted tokens.

  Returns:
    [B, T] advantages in nats, in at least float32, 0 where the mask is 0.
  """
  _, old_logprobs, teacher_logprobs = masking.counted(mask, old_logprobs, teacher_logprobs)
  return jax.lax.stop_gradient(teacher_logprobs - old_logprobs)
