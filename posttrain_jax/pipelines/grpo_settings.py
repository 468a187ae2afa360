"""Describes the config of GRPO, DAPO and their kin, as `pipelines.grpo` runs them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from posttrain_jax.assembly.attack_target import TargetSettings
from posttrain_jax.assembly.generative_judge import GenerativeJudgeSettings, refuse_two_judges
from posttrain_jax.assembly.judges import OverlongFilter, RewardSettings
from posttrain_jax.assembly.model import ModelSettings
from posttrain_jax.assembly.prompts import PromptSettings
from posttrain_jax.assembly.rollout_engine import RolloutSettings
from posttrain_jax.evaluation.evaluator import KLEvaluation
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.objective import Objective
from posttrain_jax.learner.optimizer import OptimizerConfig
from posttrain_jax.parallel.memory import MemoryWithReference
from posttrain_jax.pipelines import offline
from posttrain_jax.pipelines.advantages import Estimator
from posttrain_jax.pipelines.warm_up import WarmUpSettings
from posttrain_jax.rollouts.dynamic_sampling import DynamicSamplingSettings
from posttrain_jax.runs.sections import CheckpointSettings, RolloutLogging
from posttrain_jax.runs.settings import at_least
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class OverlongSettings:
  """Holds the `overlong` section (DAPO, sections 3.4 and 3.5).

  Attributes:
    penalty_buffer: tokens before the cap over which the soft penalty falls to −1; 0 for no penalty.
    filter: what truncated answers take part in.
  """

  penalty_buffer: int
  filter: OverlongFilter


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReferenceSettings:
  """Holds the `reference` section.

  Attributes:
    refresh_every: steps after which the policy becomes the reference; 0 to keep what training started from.
    kl_in_reward: β of an answer's summed log ratio to the reference (k1), taken from its reward; 0 for none.
  """

  refresh_every: int = at_least(0)
  kl_in_reward: float = at_least(0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherSettings:
  """Holds the `teacher` section.

  Attributes:
    path: PATH_OR_NAME of the model whose logprobs `advantage="distillation"` takes; empty for none.
  """

  path: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoringSettings:
  """Holds the `scoring` section, which says what a reward model judges.

  Attributes:
    unchecked_only: whether it judges only what the function `rewards.accuracy` abstains on, besides the other rules.
    summary_after: it sees the part of an answer after the last such text, as "</think>", where the prompt's row says
      {"judged": "summary"}; empty: it sees whole answers.
  """

  unchecked_only: bool
  summary_after: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupUpdates:
  """Holds the `learner` section.

  Attributes:
    updates_per_step: optimiser updates on a step's groups; from the second on they are off-policy and clipped.
    tokens_per_micro_batch: tokens that each batch shard computes at a time, prompts included; 0: chosen.
    max_skipped_updates: updates in a row that are not finite which end the run.
  """

  updates_per_step: int = at_least(1)
  tokens_per_micro_batch: int = at_least(0)
  max_skipped_updates: int = at_least(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GRPOLogging(RolloutLogging):
  """Holds the `logging` section.

  Attributes:
    groups_every: steps between two whose groups are stored whole, for --replay; 0 for none.
  """

  groups_every: int = at_least(0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GRPOSettings:
  """Holds the config of a run; `configs/tiny_dapo.py` says what its fields mean."""

  seed: int
  steps: int = at_least(0)
  model: ModelSettings
  mesh: Mapping[str, int]
  memory: MemoryWithReference
  warmup: WarmUpSettings
  prompts: PromptSettings
  rewards: RewardSettings
  reward_model: str
  scoring: ScoringSettings
  rollout: RolloutSettings
  replay: str
  dynamic_sampling: DynamicSamplingSettings
  overlong: OverlongSettings
  advantage: str
  advantage_options: Mapping[str, Any]
  objective: Objective
  reference: ReferenceSettings
  teacher: TeacherSettings
  learner: GroupUpdates
  optimizer: OptimizerConfig
  eval: KLEvaluation
  checkpoint: CheckpointSettings
  logging: GRPOLogging
  judge: GenerativeJudgeSettings | None = None
  target: TargetSettings | None = None

  def __post_init__(self):
    """Raises InputError if fields contradict each other."""
    refuse_two_judges(self.reward_model, self.judge)
    self.optimizer.check(updates=self.steps * self.learner.updates_per_step)
    offline.check_best(self.eval, list(self.eval.sets), epochs=False)
    self.rollout.check_updates(self.learner.updates_per_step, "learner.updates_per_step")
    by_model = bool(self.reward_model) or self.judge is not None
    if (self.scoring.unchecked_only or self.scoring.summary_after) and not by_model:
      raise InputError("scoring: has an effect on a reward model only, expected reward_model=PATH_OR_NAME or judge")
    _ = self.division  # checks it
    if self.target is not None:
      self._check_target(self.target, by_model=by_model)

  @property
  def division(self) -> Division:
    """Returns how a step's groups are cut into updates and micro-batches."""
    return self.rollout.division(self.learner.updates_per_step, self.learner.tokens_per_micro_batch)

  def _check_target(self, target: TargetSettings, *, by_model: bool) -> None:
    """Raises InputError if the config asks more of a run on attacks than it can do."""
    if by_model:
      raise InputError("target: gives the rewards, expected neither reward_model nor judge beside it")
    if self.dynamic_sampling.enabled or self.replay:
      raise InputError("target: its budget counts each step's attacks, expected neither dynamic_sampling nor replay")
    if target.asks and target.asks not in self.rewards.functions:
      known = ", ".join(self.rewards.functions)
      raise InputError(f"target.asks: {target.asks!r}, expected one of rewards.functions: {known}, or nothing")

  def needs_old(self, estimator: Estimator) -> bool:
    """Returns whether the learner's old logprobs are needed before the first update."""
    return "old_logprobs" in estimator.inputs or bool(self.reference.kl_in_reward)

  def needs_reference(self, estimator: Estimator) -> bool:
    """Returns whether the estimator, or a KL in loss or reward, needs a reference."""
    kl = self.objective.kl_coefficient or self.reference.kl_in_reward
    return "reference_logprobs" in estimator.inputs or bool(kl)
