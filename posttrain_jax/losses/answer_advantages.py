"""Computes advantages of answers that are not compared with their group.

An answer is compared with a greedy answer, with the batch, or with nothing, so a group may have one answer. `rewards`
is [P, G]: P prompts with G answers each. `valid` marks the answers that have a reward, as in `losses.group_advantages`:
the rewards of the others may hold anything (NaN) and count nowhere, and their advantage is 0.
"""

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking
from posttrain_jax.losses.group_advantages import group_centered


def remax(rewards: chex.Array, greedy_rewards: chex.Array, *, valid: chex.Array | None = None) -> jax.Array:
  """Subtracts the reward of the greedy answer to the same prompt (ReMax).

  A_i = r_i − r(argmax decoding)

  "ReMax" (arXiv:2310.10505), section 4. The baseline is unbiased.

  Args:
    rewards: float [P, G]; G is 1 in the paper.
    greedy_rewards: float [P]. If one is not finite (its verifier failed), the prompt has no baseline and its answers
      have advantage 0.
    valid: [P, G], bool or float, not 0 for answers with a reward; None: all have one.

  Returns:
    [P, G] advantages in at least float32.
  """
  chex.assert_rank(rewards, 2)
  chex.assert_shape(greedy_rewards, jnp.shape(rewards)[:1])
  baseline = jnp.broadcast_to(jnp.asarray(greedy_rewards)[:, None], jnp.shape(rewards))
  valid = jnp.ones(jnp.shape(rewards), bool) if valid is None else valid
  valid, rewards, baseline = masking.counted(valid, rewards, baseline)
  valid, rewards, baseline = masking.counted(valid & jnp.isfinite(baseline), rewards, baseline)
  return jax.lax.stop_gradient(rewards - baseline)


def batch_centered(rewards: chex.Array, *, valid: chex.Array | None = None) -> jax.Array:
  """Subtracts the mean reward of the whole batch (REINFORCE with a baseline).

  A_i = r_i − mean_batch(r)

  The constant baseline of Williams (1992), estimated from the batch; OpenRLHF's `flash_reinforce`. Answers to an easier
  prompt have positive advantages on average. This adds variance, which a baseline for each group avoids.

  Args:
    rewards: float [P, G], all answers of the update.
    valid: [P, G], bool or float, not 0 for answers with a reward; None: all have one.

  Returns:
    [P, G] advantages in at least float32; exactly 0 if all valid rewards are equal or there is only one.
  """
  chex.assert_rank(rewards, 2)
  valid = jnp.ones(jnp.shape(rewards), bool) if valid is None else valid
  chex.assert_equal_shape([rewards, valid])
  centered = group_centered(jnp.reshape(rewards, (1, -1)), valid=jnp.reshape(valid, (1, -1)))  # one group of all
  return centered.reshape(jnp.shape(rewards))


def positive_only(accuracy: chex.Array, *, valid: chex.Array | None = None, threshold: chex.Numeric = 0.5) -> jax.Array:
  """Gives correct answers advantage 1 and all others 0 (rejection-sampling fine-tuning).

  A_i = 1 if accuracy_i > threshold else 0

  With `losses.policy.reinforce` the gradient is that of supervised fine-tuning on the correct answers: "Scaling
  Relationship on Learning Mathematical Reasoning" (arXiv:2308.01825). If the policy draws new answers each round, it is
  ReST^EM (arXiv:2312.06585). Wrong answers stay in the aggregate's denominator.

  Args:
    accuracy: float [P, G].
    valid: [P, G], bool or float, not 0 for answers with a verdict; None: all have one.
    threshold: an answer is correct if its accuracy is greater than this.

  Returns:
    [P, G] advantages in at least float32.
  """
  chex.assert_rank(accuracy, 2)
  valid, accuracy = masking.counted(jnp.ones(jnp.shape(accuracy), bool) if valid is None else valid, accuracy)
  return (valid & (accuracy > threshold)).astype(accuracy.dtype)
