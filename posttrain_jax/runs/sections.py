"""Describes the groups of fields that all methods' configs share."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from posttrain_jax.runs.settings import at_least


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationTimes:
  """Describes when a run evaluates, and which checkpoint is the best one.

  Attributes:
    every: steps between two evaluations; 0 for none. Where the config counts epochs, −1 is one after each epoch.
    best: the metric by which the best checkpoint is kept, as SET/METRIC; the highest value counts. After a minus, as in
      -validation/loss, it is the lowest.
  """

  every: int = at_least(-1)
  best: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
  """Describes when a run saves.

  Attributes:
    every: steps between two checkpoints.
    keep: how many of the newest are kept, besides the best one.
    digest: whether the metrics of a saved step have the sha256 of its parameters.
  """

  every: int = at_least(1)
  keep: int = at_least(1)
  digest: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoggingSettings:
  """Describes what a run shows while it goes on.

  Attributes:
    tensorboard: whether TensorBoard events are written.
    console: metric to the label under which the terminal shows it.
  """

  tensorboard: bool
  console: Mapping[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportSettings(LoggingSettings):
  """Describes what a run shows, its report included.

  Attributes:
    report: whether report.html is written when the run ends.
  """

  report: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class RolloutLogging(ReportSettings):
  """Describes what a run with rollouts shows.

  Attributes:
    rollouts_every: the sampled answers of every so many steps are written to rollouts/.
  """

  rollouts_every: int = at_least(1)


class LoopSettings(Protocol):
  """Names what `runs.keeper` reads of a method's settings."""

  steps: int
  eval: Any  # EvaluationTimes, or a record that has its fields
  checkpoint: CheckpointSettings
  logging: LoggingSettings
