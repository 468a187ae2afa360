"""Describes the config of pretraining, as `pipelines.pretrain` does it."""

import dataclasses
from collections.abc import Mapping

from posttrain_jax.assembly.model import ModelSettings
from posttrain_jax.data.supervised import Weighting
from posttrain_jax.learner.optimizer import Schedule
from posttrain_jax.learner.supervised import DropoutRates
from posttrain_jax.parallel.memory import Memory
from posttrain_jax.pipelines import offline
from posttrain_jax.pipelines.offline import OfflineSettings
from posttrain_jax.pipelines.supervised import FittingSettings
from posttrain_jax.runs.sections import ReportSettings
from posttrain_jax.runs.settings import at_least
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardSettings:
  """Holds the `corpus` section of pretraining.

  Attributes:
    path: a workdir of `experiments.prepare`.
    row_length: tokens of a row.
    held_out: share of the documents whose loss is measured and that are not trained on.
    held_out_rows: most rows of them; 0 for all.
  """

  path: str
  row_length: int = at_least(2)
  held_out: float
  held_out_rows: int = at_least(0)

  def __post_init__(self):
    """Raises InputError if there is no path, or the share is none."""
    if not self.path:
      raise InputError("corpus.path: empty, expected the workdir of a finished experiments.prepare")
    if not 0 < self.held_out < 1:
      raise InputError(f"corpus.held_out: {self.held_out}, expected a share between 0 and 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtensionSettings:
  """Holds the `extension` section: a second phase with longer rows.

  Attributes:
    steps: updates of the phase; 0 for no such phase.
    row_length: tokens of its rows.
    batch_size: its rows of an update.
    rope_theta: base of its rotary frequencies; 0 keeps the model's.
    learning_rate: its peak.
    warmup_updates: updates over which its rate rises.
  """

  steps: int = at_least(0)
  row_length: int = at_least(2)
  batch_size: int = at_least(1)
  rope_theta: float
  learning_rate: float
  warmup_updates: int = at_least(0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainSettings(OfflineSettings):
  """Holds the config of pretraining; `configs/pretrain.py` says what its fields mean."""

  seed: int
  model: ModelSettings
  mesh: Mapping[str, int]
  memory: Memory
  corpus: ShardSettings
  extension: ExtensionSettings
  micro_batches: int
  logprob_chunk: int
  logging: ReportSettings

  def __post_init__(self):
    """Raises InputError if the second phase has no longer rows, or no updates after its warm-up."""
    offline.check_best(self.eval, ["validation"])
    if self.extension.steps and self.extension.row_length <= self.corpus.row_length:
      raise InputError(
        f"extension.row_length: {self.extension.row_length}, expected more than corpus.row_length = "
        f"{self.corpus.row_length}"
      )
    second = self.extension
    if second.steps and second.warmup_updates >= second.steps:
      raise InputError(f"extension.warmup_updates: {second.warmup_updates}, expected less than {second.steps} steps")

  def extended(self) -> "PretrainSettings":
    """Returns the settings of the second phase, which itself has none."""
    second = self.extension
    optimizer = dataclasses.replace(
      self.optimizer,
      learning_rate=second.learning_rate,
      warmup_updates=second.warmup_updates,
      decay_updates=0 if self.optimizer.schedule == Schedule.CONSTANT else second.steps,
    )
    return dataclasses.replace(
      self,
      steps=second.steps,
      epochs=0,
      batch_size=second.batch_size,
      optimizer=optimizer,
      corpus=dataclasses.replace(self.corpus, row_length=second.row_length),
      extension=dataclasses.replace(second, steps=0),
    )

  def fitting(self) -> FittingSettings:
    """Returns what `supervised.fit` reads; all tokens weigh the same, and there is no dropout."""
    own = {field.name: getattr(self, field.name) for field in dataclasses.fields(OfflineSettings)}
    return FittingSettings(
      **own,
      micro_batches=self.micro_batches,
      loss_weighting=Weighting.TOKEN,
      dropout=DropoutRates(0.0, 0.0),
      logprob_chunk=self.logprob_chunk,
    )
