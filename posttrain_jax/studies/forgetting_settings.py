"""Describes the config of the study of forgetting and of its supervised runs."""

import dataclasses
from collections.abc import Mapping

from posttrain_jax.assembly.demonstrations import DemonstrationSettings
from posttrain_jax.assembly.judges import RewardSettings
from posttrain_jax.assembly.model import ModelSettings
from posttrain_jax.assembly.plain_text import PlainTextSettings
from posttrain_jax.data.supervised import Weighting
from posttrain_jax.evaluation.evaluator import EvaluationSettings, SetsSettings
from posttrain_jax.evaluation.variety import VarietySettings
from posttrain_jax.learner.optimizer import OptimizerConfig
from posttrain_jax.learner.supervised import DropoutRates
from posttrain_jax.pipelines.supervised import SupervisedSettings
from posttrain_jax.pipelines.warm_up import WarmUpSettings
from posttrain_jax.runs.sections import CheckpointSettings, LoggingSettings
from posttrain_jax.types import InputError

HELD_OUT = "heldout"  # the evaluation set whose accuracy counts


@dataclasses.dataclass(frozen=True, kw_only=True)
class NarrowSettings:
  """Holds the `narrow` section: what the procedural study trains and tests on.

  Attributes:
    difficulties: numbers of steps of the problems.
    examples: training problems of each number of steps.
    problems: held-out problems of each number of steps.
    seed: of the problems.
  """

  difficulties: tuple[int, ...]
  examples: int
  problems: int
  seed: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyEvaluation(SetsSettings):
  """Holds the `eval` section; the study says when to evaluate.

  Attributes:
    best: the metric by which the best checkpoint of a run is kept.
  """

  best: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyRun(SupervisedSettings):
  """Holds the config of one supervised run of the study."""

  seed: int
  model: ModelSettings
  mesh: Mapping[str, int]
  eval: EvaluationSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForgettingSettings:
  """Holds the config of the study; `configs/tiny_forgetting.py` says what its fields mean."""

  seed: int
  learning_rates: tuple[float, ...]
  epochs: tuple[int, ...]
  batch_size: int
  micro_batches: int
  loss_weighting: Weighting
  dropout: DropoutRates
  logprob_chunk: int
  model: ModelSettings
  mesh: Mapping[str, int]
  warmup: WarmUpSettings
  demonstrations: DemonstrationSettings
  narrow: NarrowSettings | None = None
  plain: PlainTextSettings
  samples: VarietySettings
  rewards: RewardSettings
  optimizer: OptimizerConfig
  eval: StudyEvaluation
  checkpoint: CheckpointSettings
  logging: LoggingSettings

  def __post_init__(self):
    """Raises InputError if fields contradict each other."""
    rates, epochs = self.learning_rates, self.epochs
    if not rates or len({f"{rate:g}" for rate in rates}) < len(rates) or min(rates) <= 0:
      raise InputError(f"learning_rates: {rates}, expected different ones above 0")
    if not epochs or list(epochs) != sorted(set(epochs)) or epochs[0] < 1:
      raise InputError(f"epochs: {epochs}, expected whole numbers from 1 on, going up")
    if not self.demonstrations.path and self.narrow is None:
      raise InputError("demonstrations.path: empty, expected a file of what to fine-tune on")
    if HELD_OUT not in self.eval.sets:
      raise InputError(f"eval.sets: {', '.join(self.eval.sets) or 'none'}, expected one named {HELD_OUT}")

  def run(self, learning_rate: float) -> StudyRun:
    """Returns the settings of a supervised run, which evaluates after each of the most epochs."""
    sets = {field.name: getattr(self.eval, field.name) for field in dataclasses.fields(StudyEvaluation)}
    return StudyRun(
      steps=0,
      epochs=max(self.epochs),
      batch_size=self.batch_size,
      micro_batches=self.micro_batches,
      max_skipped_updates=1,
      optimizer=dataclasses.replace(self.optimizer, learning_rate=learning_rate),
      eval=EvaluationSettings(every=-1, own_share=0.0, own_limit=0, **sets),
      checkpoint=self.checkpoint,
      logging=self.logging,
      loss_weighting=self.loss_weighting,
      dropout=self.dropout,
      logprob_chunk=self.logprob_chunk,
      demonstrations=self.demonstrations,
      seed=self.seed,
      model=self.model,
      mesh=self.mesh,
    )

  def reading(self, demonstrations: str, held_out: str) -> "ForgettingSettings":
    """Returns the study with these files: demonstrations, and the problems of the held-out set."""
    tested = self.eval.sets[HELD_OUT]
    tested = dataclasses.replace(tested, prompts=dataclasses.replace(tested.prompts, path=held_out))
    return dataclasses.replace(
      self,
      demonstrations=dataclasses.replace(self.demonstrations, path=demonstrations),
      eval=dataclasses.replace(self.eval, sets={**self.eval.sets, HELD_OUT: tested}),
    )
