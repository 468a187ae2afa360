"""Advantages of an answer that is not compared with its group: with a greedy answer, with the batch, or with nothing.

A group of one works. `rewards` is [P, G]: P prompts with G answers each. `valid` says which of them have a reward at
all, as in `losses.group_advantages`: what is not valid may hold anything (NaN), counts nowhere and has advantage 0.
"""

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking
from posttrain_jax.losses.group_advantages import group_centered


def remax(rewards: chex.Array, greedy_rewards: chex.Array, *, valid: chex.Array | None = None) -> jax.Array:
  """ReMax: a reward minus that of the greedy answer to the same prompt, an unbiased baseline.

  A_i = r_i − r(argmax decoding)

  "ReMax" (arXiv:2310.10505), section 4.

  Args:
    rewards: [P, G]; G is 1 in the paper.
    greedy_rewards: [P]. Where one is not finite (a verifier that failed), there is no baseline and the prompt's answers
      have advantage 0.
    valid: [P, G], bool or float, not 0 where there is a reward; None: all.

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
  """REINFORCE with a baseline: a reward minus the mean reward of the whole batch.

  A_i = r_i − mean_batch(r)

  The constant baseline of Williams (1992), estimated from the batch; OpenRLHF's `flash_reinforce`. Prompts that are
  easier than the others have positive advantages on average: what that costs in variance is what groups save.

  Args:
    rewards: [P, G], all the answers of the update.
    valid: [P, G], bool or float, not 0 where there is a reward; None: all.

  Returns:
    [P, G] advantages in at least float32: exactly 0 where all valid rewards are equal, as those of a single one are.
  """
  chex.assert_rank(rewards, 2)
  valid = jnp.ones(jnp.shape(rewards), bool) if valid is None else valid
  chex.assert_equal_shape([rewards, valid])
  centered = group_centered(jnp.reshape(rewards, (1, -1)), valid=jnp.reshape(valid, (1, -1)))  # one group of all
  return centered.reshape(jnp.shape(rewards))


def positive_only(accuracy: chex.Array, *, valid: chex.Array | None = None, threshold: chex.Numeric = 0.5) -> jax.Array:
  """Rejection-sampling fine-tuning as an advantage: right answers are made likelier, wrong ones are left alone.

  A_i = 1 if accuracy_i > threshold else 0

  With `losses.policy.reinforce` the gradient is that of supervised fine-tuning on the right answers: "Scaling
  Relationship on Learning Mathematical Reasoning" (arXiv:2308.01825), or, with the policy's own answers drawn anew each
  round, ReST^EM (arXiv:2312.06585). Wrong answers stay in the aggregate's denominator.

  Args:
    accuracy: [P, G].
    valid: [P, G], bool or float, not 0 where there is a verdict; None: all.
    threshold: what an accuracy must exceed to be right.

  Returns:
    [P, G] advantages in at least float32.
  """
  chex.assert_rank(accuracy, 2)
  valid, accuracy = masking.counted(jnp.ones(jnp.shape(accuracy), bool) if valid is None else valid, accuracy)
  return (valid & (accuracy > threshold)).astype(accuracy.dtype)
