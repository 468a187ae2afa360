"""From a step's groups to what the learner trains on: padding, masks, and the logprobs and advantages that it asks for.

The objective's KL term, KL in the reward (`reference.kl_in_reward`) and the estimator of advantages each need the
learner's old logprobs, a reference's, a teacher's, or the reward of a greedy answer; whatever nobody needs is not
computed.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from flax import nnx

from posttrain_jax.learner.policy_gradient import PolicyBatch
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.parallel.memory import Kept
from posttrain_jax.pipelines import batch as batches
from posttrain_jax.pipelines.advantages import Estimator, charge_kl
from posttrain_jax.types import Group


@dataclasses.dataclass
class PolicyBatches:
  """Makes the batch of a step.

  Attributes:
    learner: whose batch it is.
    estimator: turns rewards into advantages.
    sizes: `count`, `group_size`, `prompt_width` and `answer_width` of the padded rollout.
    overlong_filter: whether truncated answers leave the loss.
    kl_in_reward: β of the KL that is taken from rewards; 0 for none.
    reference: frozen parameters, in the learner's layout; None where nothing needs them.
    reference_kept: in whose memory they are between steps.
    teacher: logprobs of a batch under another model; None where nothing needs them.
    greedy: reward of the policy's greedy answer to each group's prompt; None where nothing needs it.
  """

  learner: PolicyLearner
  estimator: Estimator
  sizes: dict[str, int]
  overlong_filter: bool = False
  kl_in_reward: float = 0.0
  reference: nnx.State | None = None
  reference_kept: Kept = Kept.DEVICE
  teacher: Callable[[PolicyBatch], np.ndarray] | None = None
  greedy: Callable[[Sequence[Group]], np.ndarray] | None = None

  def refresh_reference(self) -> None:
    """Makes the learner's present parameters the reference."""
    self.reference = self.learner.scorer.freeze(self.learner.state.params, self.reference_kept)

  def __call__(self, groups: Sequence[Group]) -> PolicyBatch:
    """The batch of judged groups, at most `count` of them."""
    rollout = batches.stack_groups(groups, **self.sizes)
    mask = batches.training_mask(rollout, overlong_filter=self.overlong_filter)
    batch = batches.policy_batch(rollout, np.zeros((*mask.shape[:2], 1), np.float32), mask)
    needed = self.estimator.inputs
    arrays = {name: getattr(rollout, name) for name in ("rewards", "accuracy", "lengths", "valid")} | {"mask": mask}

    logprobs = {}
    if "old_logprobs" in needed or self.kl_in_reward:
      logprobs["old_logprobs"] = self.learner.score(batch)
    if self.reference is not None:
      logprobs["reference_logprobs"] = self.learner.scorer(self.reference, batch)
    if self.kl_in_reward:
      charged = charge_kl(rollout.rewards, **logprobs, mask=mask, coefficient=self.kl_in_reward)
      arrays["rewards"] = np.where(rollout.valid, charged, 0)
    if "teacher_logprobs" in needed:
      arrays["teacher_logprobs"] = self.teacher(batch)
    if "greedy_rewards" in needed:
      # Rows without a group have no answer that a baseline could be taken from.
      arrays["greedy_rewards"] = np.zeros((len(mask),), np.float32)
      arrays["greedy_rewards"][: len(groups)] = self.greedy(groups)
    advantages = self.estimator(**arrays, **logprobs)
    return dataclasses.replace(batch, advantages=advantages, **logprobs)
