"""Computes the advantage of an answer over the other answers to its prompt.

`rewards` is [P, G]: P prompts with G answers each. `valid` marks the answers that have a reward. An answer whose
verifier failed has no reward, which is not the same as a reward of 0. The rewards of invalid answers may hold anything
(NaN) and count nowhere, and their advantage is 0. A group with fewer than two valid rewards gets zeros, because there
is nothing to compare.

Equal rewards give exactly 0, also in float32, in which the mean of eight rewards of 0.7 is not 0.7.
"""

from typing import Literal

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking


def group_normalized(
  rewards: chex.Array,
  *,
  ddof: int = 0,
  epsilon: float = 0.0,
  min_std: float = 1e-8,
  valid: chex.Array | None = None,
  scale: Literal["group", "batch"] = "group",
) -> jax.Array:
  """Computes the z-score of each reward within its group (GRPO).

  A_i = (r_i − mean(r)) / (std(r) + epsilon)

  "DeepSeekMath" (arXiv:2402.03300), section 4.1.2. Rounding must not look like a difference. So a group's advantages
  are exactly 0 if its largest reward equals its smallest, or if std ≤ max(min_std, 8 eps(dtype) max|r|).

  Args:
    rewards: float [P, G].
    ddof: the variance divides by the number of valid rewards minus this; 0 in the paper, 1 in most libraries.
    epsilon: added to the standard deviation; 0 in the paper.
    min_std: standard deviations up to this one count as no difference.
    valid: [P, G], bool or float, not 0 for answers with a reward; None: all have one.
    scale: "group" divides by the group's standard deviation, "batch" by the whole batch's (arXiv:2508.08221), which
      gives easy and hard groups no extra weight. Both subtract the group's mean.

  Returns:
    [P, G] advantages in at least float32.

  Raises:
    ValueError: if scale is neither "group" nor "batch".
  """
  valid, rewards, centered = _center(rewards, valid)
  if scale == "group":
    spread, axis = centered, 1
  elif scale == "batch":
    spread, axis = _center(rewards.reshape(1, -1), valid.reshape(1, -1))[2].reshape(rewards.shape), None
  else:
    raise ValueError(f"scale: expected 'group' or 'batch', found {scale!r}")
  count = jnp.sum(valid, axis=axis, keepdims=True)
  variance = masking.divide_or_zero(jnp.sum(jnp.square(spread), axis=axis, keepdims=True), jnp.maximum(count - ddof, 0))
  std = jnp.sqrt(variance)
  largest = jnp.max(jnp.abs(rewards), axis=axis, keepdims=True)
  floor = jnp.maximum(min_std, 8 * jnp.finfo(rewards.dtype).eps * largest)
  differs = jnp.broadcast_to(std > floor, rewards.shape)
  return jnp.where(differs, centered / jnp.where(differs, std + epsilon, 1), 0)


def group_centered(rewards: chex.Array, *, valid: chex.Array | None = None) -> jax.Array:
  """Subtracts the group's mean reward (Dr. GRPO).

  A_i = r_i − mean(r)

  "Understanding R1-Zero-Like Training" (arXiv:2503.20783), section 3.2. Unlike GRPO it does not divide by the standard
  deviation, which favours very easy and very hard prompts.

  Args:
    rewards: float [P, G].
    valid: [P, G], bool or float, not 0 for answers with a reward; None: all have one.

  Returns:
    [P, G] advantages in at least float32.
  """
  return _center(rewards, valid)[2]


def leave_one_out(rewards: chex.Array, *, valid: chex.Array | None = None) -> jax.Array:
  """Subtracts the mean of the group's other rewards (RLOO).

  A_i = r_i − Σ_{j≠i} r_j / (n − 1) = n / (n − 1) · (r_i − mean(r))

  "Back to Basics" (arXiv:2402.14740), the RLOO estimator. The baseline is unbiased. n is the number of valid rewards.

  Args:
    rewards: float [P, G].
    valid: [P, G], bool or float, not 0 for answers with a reward; None: all have one.

  Returns:
    [P, G] advantages in at least float32.
  """
  valid, rewards, centered = _center(rewards, valid)
  count = jnp.sum(valid, axis=1, keepdims=True).astype(rewards.dtype)
  return centered * masking.divide_or_zero(count, count - 1)


def optimal_baseline(rewards: chex.Array, lengths: chex.Array, *, valid: chex.Array | None = None) -> jax.Array:
  """Subtracts the group's mean reward weighted by length (OPO).

  A_i = r_i − Σ_j l_j r_j / Σ_j l_j

  "On-Policy RL with Optimal Reward Baseline" (arXiv:2505.23585). This baseline gives the smallest gradient variance if
  an answer's squared gradient norm is proportional to its length. Like the mean, it contains the answer's own reward.

  Args:
    rewards: float [P, G].
    lengths: int or float [P, G], counted tokens of each answer, not negative.
    valid: [P, G], bool or float, not 0 for answers with a reward; None: all have one.

  Returns:
    [P, G] advantages in at least float32.
  """
  chex.assert_rank(rewards, 2)
  valid, rewards, lengths = masking.counted(_all_valid(rewards) if valid is None else valid, rewards, lengths)
  rewards, lengths = jax.lax.stop_gradient((rewards, lengths))
  above = _above_smallest(rewards, valid)
  weighted = jnp.sum(lengths * above, axis=1, keepdims=True)
  baseline = masking.divide_or_zero(weighted, jnp.sum(lengths, axis=1, keepdims=True))
  return jnp.where(valid, above - baseline, 0)


def informative_groups(accuracy: chex.Array, *, valid: chex.Array | None = None, right_above: float = 0.5) -> jax.Array:
  """Marks the groups that have both correct and wrong answers (DAPO's dynamic sampling).

  0 < number correct < number valid

  "DAPO" (arXiv:2503.14476), eq. 11. Other groups have no gradient. The test uses the raw accuracy and never a shaped
  reward, with which every group of answers of two lengths would look informative.

  Args:
    accuracy: float [P, G] in [0, 1].
    valid: [P, G], bool or float, not 0 for answers with a verdict; None: all have one.
    right_above: an accuracy above it is correct.

  Returns:
    bool [P]; False for a group with fewer than two verdicts.
  """
  chex.assert_rank(accuracy, 2)
  valid, accuracy = masking.counted(_all_valid(accuracy) if valid is None else valid, accuracy)
  correct = jnp.sum(accuracy > right_above, axis=1)
  return (correct > 0) & (correct < jnp.sum(valid, axis=1))


def _all_valid(rewards: chex.Array) -> jax.Array:
  return jnp.ones(jnp.shape(rewards), bool)


def _center(rewards: chex.Array, valid: chex.Array | None) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Masks rewards and subtracts their group's mean.

  Returns:
    (valid, rewards, rewards minus their group's mean), all [P, G]; the last two are 0 for invalid answers.
  """
  chex.assert_rank(rewards, 2)
  valid, rewards = masking.counted(_all_valid(rewards) if valid is None else valid, rewards)
  rewards = jax.lax.stop_gradient(rewards)
  above = _above_smallest(rewards, valid)
  mean = masking.divide_or_zero(jnp.sum(above, axis=1, keepdims=True), jnp.sum(valid, axis=1, keepdims=True))
  return valid, rewards, jnp.where(valid, above - mean, 0)


def _above_smallest(rewards: jax.Array, valid: jax.Array) -> jax.Array:
  """Subtracts the group's smallest reward: equal rewards become zeros, whose mean is exact."""
  smallest = jnp.min(jnp.where(valid, rewards, jnp.inf), axis=1, keepdims=True)
  return jnp.where(valid, rewards - smallest, 0)
