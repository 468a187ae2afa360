"""Describes the config of PPO, as `pipelines.ppo` runs it."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
from jax.sharding import Mesh

from posttrain_jax.assembly.judges import RewardSettings
from posttrain_jax.assembly.model import ModelSettings
from posttrain_jax.assembly.pretraining_text import PretrainingTextSettings
from posttrain_jax.assembly.prompts import PromptSettings
from posttrain_jax.assembly.rollout_engine import RolloutSettings
from posttrain_jax.evaluation.evaluator import KLEvaluation
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.objective import Objective
from posttrain_jax.learner.optimizer import OptimizerConfig
from posttrain_jax.learner.value import ValueObjective
from posttrain_jax.parallel.memory import MemoryWithReference
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.pipelines import offline
from posttrain_jax.pipelines.ppo_advantages import AdvantageEstimator, KLPenalty, NoEnd, Whitening
from posttrain_jax.pipelines.warm_up import WarmUpSettings
from posttrain_jax.runs.sections import CheckpointSettings, RolloutLogging
from posttrain_jax.runs.settings import at_least
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshesSettings:
  """Holds the `meshes` section: layouts of the models besides the policy, on the same devices.

  Attributes:
    reference: devices along each axis; all 0 for the policy's layout, as in what follows.
    reward: of the reward model.
    value: of the value model.
  """

  reference: Mapping[str, int]
  reward: Mapping[str, int]
  value: Mapping[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpochUpdates:
  """Holds the `learner` section.

  Attributes:
    epochs: passes over a step's prompts, each in another order.
    minibatches: updates of policy and value model in an epoch.
    tokens_per_micro_batch: tokens that each batch shard computes at a time, prompts included; 0: chosen.
    max_skipped_updates: updates in a row that are not finite which end the run.
  """

  epochs: int = at_least(1)
  minibatches: int = at_least(1)
  tokens_per_micro_batch: int = at_least(0)
  max_skipped_updates: int = at_least(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValueSettings:
  """Holds the `value` section.

  Attributes:
    path: PATH_OR_NAME to start from; empty for the reward model if there is one, else the policy.
    zero_head: whether it starts with a head of zeros, also in place of a reward model's: every value is 0 at first.
    pretraining_steps: the first steps, in which the value model alone is trained.
    objective: what it minimises.
    optimizer: its own optimiser.
  """

  path: str
  zero_head: bool
  pretraining_steps: int = at_least(0)
  objective: ValueObjective
  optimizer: OptimizerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class AverageSettings:
  """Holds the `average` section.

  Attributes:
    decay: of the exponential moving average of the policy, taken once a step; 0 to keep none.
    evaluate: whether the average is evaluated too, as SET_average/METRIC.
  """

  decay: float
  evaluate: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class PPOSettings:
  """Holds the config of a run; `configs/tiny_ppo.py` says what its fields mean."""

  seed: int
  steps: int = at_least(0)
  model: ModelSettings
  mesh: Mapping[str, int]
  meshes: MeshesSettings
  memory: MemoryWithReference
  warmup: WarmUpSettings
  prompts: PromptSettings
  rollout: RolloutSettings
  rewards: RewardSettings
  reward_model: str
  no_end: NoEnd
  kl: KLPenalty
  gae: AdvantageEstimator
  whiten: Whitening
  objective: Objective
  learner: EpochUpdates
  optimizer: OptimizerConfig
  value: ValueSettings
  ptx: PretrainingTextSettings
  average: AverageSettings
  eval: KLEvaluation
  checkpoint: CheckpointSettings
  logging: RolloutLogging

  def __post_init__(self):
    """Raises InputError if fields contradict each other."""
    updates, trained = self.learner.epochs * self.learner.minibatches, max(self.steps - self.value.pretraining_steps, 0)
    self.optimizer.check(updates=trained * updates)
    self.value.optimizer.check("value.optimizer", updates=self.steps * updates)
    if not 0 <= self.average.decay < 1:
      raise InputError(f"average.decay: {self.average.decay}, expected 0 (none) to below 1")
    if self.ptx.coefficient < 0:
      raise InputError(f"ptx.coefficient: {self.ptx.coefficient}, expected 0 (off) or more")
    of_average = [f"{name}_average" for name in self.eval.sets] if self.average.decay and self.average.evaluate else []
    offline.check_best(self.eval, [*self.eval.sets, *of_average], epochs=False)
    self.rollout.check_updates(self.learner.minibatches, "learner.minibatches")
    _ = self.division  # checks it

  @property
  def division(self) -> Division:
    """Returns how a step's prompts are cut into updates and micro-batches."""
    return self.rollout.division(self.learner.minibatches, self.learner.tokens_per_micro_batch)

  def mesh_of(self, name: str, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Makes the layout of one of the models besides the policy.

    Args:
      name: reference, reward or value.
      devices: the devices to use; None for all.

    Raises:
      InputError: if the sizes do not fit the devices.
    """
    sizes = getattr(self.meshes, name)
    if not any(sizes.values()):
      return make_mesh(self.mesh, devices)
    try:
      return make_mesh({axis: size or 1 for axis, size in sizes.items()}, devices)
    except InputError as error:
      raise InputError(f"meshes.{name}: {error}") from None
