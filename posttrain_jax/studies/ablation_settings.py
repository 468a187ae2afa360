"""Checks the config of an ablation, and those of its runs, before anything runs."""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from posttrain_jax.pipelines.collect_settings import EditedCollection, SampledCollection
from posttrain_jax.pipelines.grpo_settings import GRPOSettings
from posttrain_jax.pipelines.sft import SFTSettings
from posttrain_jax.runs.settings import at_least, parse
from posttrain_jax.types import InputError


class Method(enum.StrEnum):
  """Names how a row trains."""

  DAPO = "dapo"
  SFT = "sft"  # the warm-up, continued
  BEST_OF_N = "best_of_n"  # SFT on the best of n answers of the warmed-up model


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowSettings:
  """Holds a config's group of fields about one row.

  Attributes:
    method: how it trains.
    task: whose config it changes.
    change: fields that differ from the task's config.
    collect: config of `experiments.collect`, for best of n.
  """

  method: Method
  task: str
  change: Mapping[str, Any]
  collect: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasureSettings:
  """Holds a config's group of fields about what is measured.

  Attributes:
    set: evaluation set of the primary measure.
    other_sets: evaluation sets of secondary measures.
    tokens: budget of each task, in generated tokens.
    points: how many points at equal distances up to the budget.
    last: how many of the last points count.
    resamples: resamples of the bootstrap.
  """

  set: str
  other_sets: tuple[str, ...]
  tokens: Mapping[str, int]
  points: int = at_least(1)
  last: int = at_least(1)
  resamples: int = at_least(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AblationSettings:
  """Holds the config of an ablation.

  Attributes:
    base: config of a GRPO run.
    tasks: changes of each task to it.
    rows: the rows by name.
    measure: what is measured.
    contrasts: families of (row with a technique, row without it, the technique).
    groups: names of groups of rows.
  """

  base: Mapping[str, Any]
  tasks: Mapping[str, Mapping[str, Any]]
  rows: Mapping[str, RowSettings]
  measure: MeasureSettings
  contrasts: Mapping[str, tuple[tuple[str, ...], ...]]
  groups: Mapping[str, tuple[str, ...]]

  def __post_init__(self):
    for name, row in self.rows.items():
      _expect(row.task, self.tasks, f"rows.{name}.task")
      if (row.method == Method.BEST_OF_N) != (row.collect is not None):
        raise InputError(f"rows.{name}.collect: expected with method {str(Method.BEST_OF_N)!r}, and with no other")
    for task in self.tasks:
      if task not in self.measure.tokens:
        raise InputError(f"measure.tokens.{task}: missing, expected the budget of the task")
    for family, contrasts in self.contrasts.items():
      for contrast in contrasts:
        if len(contrast) != 3:
          raise InputError(f"contrasts.{family}: {contrast}, expected (row, row, technique)")
        for row in contrast[:2]:
          _expect(row, self.rows, f"contrasts.{family}")
    if "main" not in self.groups:
      raise InputError("groups.main: missing, expected the rows of the table")
    for group, rows in self.groups.items():
      for row in rows:
        _expect(row, self.rows, f"groups.{group}")


def check(study: ml_collections.ConfigDict) -> None:
  """Checks the config of an ablation.

  Raises:
    InputError: if a field is unknown, missing or of another type, or names a row or task that is not there.
  """
  parse(AblationSettings, study)
  try:
    parse(GRPOSettings, study.base)
  except InputError as error:
    raise InputError(f"base.{error}") from None


def check_runs(runs: Sequence[tuple[str, str, ml_collections.ConfigDict]]) -> None:
  """Checks the configs of runs.

  Args:
    runs: (name, program of `experiments`, config) of each.

  Raises:
    InputError: if the program would refuse a config for its fields.
  """
  for name, program, config in runs:
    sampled = EditedCollection if config.get("source") == "edited" else SampledCollection
    record = {"dapo": GRPOSettings, "sft": SFTSettings, "collect": sampled}[program]
    try:
      parse(record, config)
    except InputError as error:
      raise InputError(f"{name}: {error}") from None


def _expect(name: str, known: Mapping[str, Any], where: str) -> None:
  if name not in known:
    raise InputError(f"{where}: {name!r}, expected one of {', '.join(sorted(known))}")
