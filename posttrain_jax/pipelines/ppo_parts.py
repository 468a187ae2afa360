"""What PPO runs on, and what its loop asks of it besides training; `ppo_assembly` puts it together."""

import collections
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flax import nnx

from posttrain_jax.data.stream import PromptStream
from posttrain_jax.learner.policy_gradient import PolicyBatch
from posttrain_jax.learner.policy_learner import PolicyLearner
from posttrain_jax.learner.value_learner import ValueLearner
from posttrain_jax.pipelines import batch as batches
from posttrain_jax.pipelines import rollout_metrics
from posttrain_jax.pipelines.clock import Clock
from posttrain_jax.pipelines.evaluator import Evaluator
from posttrain_jax.pipelines.model_rewards import Judge
from posttrain_jax.pipelines.policy import Policy
from posttrain_jax.pipelines.ppo_advantages import AdvantageEstimator, KLPenalty, NoEnd, Whitening
from posttrain_jax.pipelines.preemption import Preemption
from posttrain_jax.pipelines.reference_policy import KLToReference, frozen_copy
from posttrain_jax.pipelines.workdir import Workdir
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.types import FinishReason, Group


@dataclasses.dataclass(frozen=True)
class Parts:
  """What the loop runs on.

  Attributes:
    directory: the open workdir.
    policy: model and tokeniser; `params` are those that training started from.
    learner: trains the policy.
    value: trains the value model.
    engine: draws the rollouts.
    stream: the prompts.
    judge: fills in rewards, by the verifier or the reward model.
    evaluator: evaluates on held-out sets.
    clock: seconds by phase.
    preemption: whether SIGTERM arrived.
    kl: the KL charged in the reward.
    no_end: what becomes of answers without an end.
    estimator: GAE's numbers.
    whitening: what is whitened.
    minibatch_seed: of the order of minibatches.
    reference_logprobs: logprobs [P, G, Tc] of a batch under the reference.
    into_average: takes the policy's parameters into their average; None where none is kept.
    evaluates_average: whether the average is evaluated too.
    kl_to_start: KL of sampled answers to what training started from; None where nobody asks.
  """

  directory: Workdir
  policy: Policy
  learner: PolicyLearner
  value: ValueLearner
  engine: Engine
  stream: PromptStream
  judge: Judge
  evaluator: Evaluator
  clock: Clock
  preemption: Preemption
  kl: KLPenalty
  no_end: NoEnd
  estimator: AdvantageEstimator
  whitening: Whitening
  minibatch_seed: int
  reference_logprobs: Callable[[PolicyBatch], np.ndarray]
  into_average: Callable[[nnx.State, nnx.State], nnx.State] | None
  evaluates_average: bool
  kl_to_start: KLToReference | None
  _handover: Callable[[nnx.State], nnx.State]

  def hand_over(self) -> None:
    """Gives the policy's parameters, and their version, to the engine."""
    self.engine.load(self._handover(self.learner.state.params), self.learner.version)

  def start_average(self) -> nnx.State | None:
    """The average before the first step: the policy as it came; None where none is kept."""
    return None if self.into_average is None else frozen_copy(self.learner.state.params)

  def describe(self, groups: Sequence[Group]) -> dict[str, float]:
    """Metrics of what a step sampled."""
    judged = [(group, "trained") for group in groups]
    stats, version = self.engine.take_stats(), self.engine.version
    found = rollout_metrics.describe(groups, judged, collections.Counter(), stats, version=version)
    valid = np.concatenate([group.valid for group in groups])
    truncated = np.concatenate([group.truncated for group in groups])
    # No group is chosen over another, so there is nothing to say of the choice.
    chosen = ("sampling/dropped", "sampling/carried", "sampling/surplus", "sampling/informative")
    found = {name: value for name, value in found.items() if not name.startswith(chosen)}
    return found | {"no_end/share": float(truncated[valid].mean()) if valid.any() else math.nan}

  def batch(self, groups: Sequence[Group]) -> tuple[PolicyBatch, np.ndarray]:
    """A step's answers for the learners, without advantages, and their scores, float32 [P, G]."""
    rollout = batches.stack_groups(
      groups,
      count=len(groups),
      group_size=len(groups[0].answers),
      prompt_width=self.engine.max_prompt_length,
      answer_width=self.engine.max_new_tokens,
    )
    mask = batches.training_mask(rollout, overlong_filter=False)
    scores = self.no_end.apply(rollout.rewards, rollout.finish_reasons == FinishReason.LENGTH)
    batch = batches.policy_batch(rollout, np.zeros(mask.shape, np.float32), mask)
    return dataclasses.replace(batch, correct=(rollout.accuracy > 0.5) & rollout.valid), scores

  def evaluate(self, average: nnx.State | None) -> dict[str, Any]:
    """Evaluates the policy that the engine has, and the average where that is asked for: `eval/<set>/<metric>`."""
    metrics, judged = self.evaluator(self.engine.params, self.learner.version)
    if self.kl_to_start is not None:
      metrics |= self.kl_to_start.of_sets(judged, "kl_to_start")
    if average is not None and self.evaluates_average:
      for name, value in self.evaluator(self._handover(average), self.learner.version)[0].items():
        _, of, metric = name.split("/", 2)
        metrics[f"eval/{of}_average/{metric}"] = value
    return metrics
