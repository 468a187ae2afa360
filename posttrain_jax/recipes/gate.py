"""Stops a recipe if a stage has lost more than it may lose.

A gate compares the measurements of the models before and after the stage. Where both models have answered the same
requests of the assistant world, the difference is taken request by request. For all other measures the two intervals
stand for themselves, and the interval of the difference is their root of the sum of squares.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.recipes import gains, report
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.recipes.measures import Measured, read_measured
from posttrain_jax.recipes.recipe import Stage
from posttrain_jax.recipes.tables import Table
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError, RunFailed

GATE = "gate.json"
GATES = ("gate", "release")  # kinds of stages that stop a recipe


class GateClosed(RunFailed):
  """Reports that a stage loses more than its bound.

  Attributes:
    stage: which loses.
    metrics: what the gate has found of each bound.
  """

  def __init__(self, stage: str, metrics: Mapping[str, float], message: str):
    """Makes the error of one line."""
    super().__init__(message)
    self.stage, self.metrics = stage, metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounds:
  """Holds how much a stage may lose; names of measures are those of the recipe's table.

  Attributes:
    may_fall: measure of which more is better, to the most by which it may fall.
    may_rise: measure of which less is better, to the most by which it may rise.
  """

  may_fall: Mapping[str, float]
  may_rise: Mapping[str, float]

  def __post_init__(self):
    """Raises InputError if a bound is negative, or if a measure stands in both groups."""
    for group in ("may_fall", "may_rise"):
      for name, bound in getattr(self, group).items():
        if not (math.isfinite(bound) and bound >= 0):
          raise InputError(f"bounds.{group}.{name}: {bound}, expected 0 or more")
    for name in self.may_fall.keys() & self.may_rise.keys():
      raise InputError(f"bounds.may_rise.{name}: stands in may_fall, too; expected it in one of them")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
  """Describes where the measurement of a model is.

  Attributes:
    metrics: its metrics.jsonl.
    answers: its answers.jsonl; empty where it has none.
  """

  metrics: str
  answers: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class GateSettings:
  """Holds the config of a gate.

  Attributes:
    seed: of the intervals.
    stage: name of the stage that lies between the two measurements.
    before: the measurement before it.
    after: the one after it.
    bounds: what it may lose.
  """

  seed: int
  stage: str
  before: Measurement
  after: Measurement
  bounds: Bounds


@dataclasses.dataclass(frozen=True)
class _Loss:
  measure: str
  before: float
  after: float
  loss: Measured
  bound: float

  @property
  def too_much(self) -> bool:
    return self.loss.low > self.bound

  @property
  def sentence(self) -> str:
    return (
      f"{self.measure} gets worse by {self.loss.value:.3f} [{self.loss.low:.3f}, {self.loss.high:.3f}], "
      f"from {self.before:.3f} to {self.after:.3f}; its bound is {self.bound:g}"
    )


def gate(stage: str, bounds: Mapping[str, Mapping[str, float]]) -> ConfigDict:
  """Returns the config of a gate, whose inputs are the files of both measurements."""
  files = dict(metrics="", answers="")
  return ConfigDict(dict(seed=0, stage=stage, before=files, after=dict(files), bounds=dict(bounds)))


check = check_of(GateSettings)


def check_accepted(stages: Sequence[Stage], accepted: Collection[str]) -> None:
  """Checks that each accepted stage has a gate.

  Raises:
    InputError: if one has none.
  """
  gated = [stage.config.stage for stage in stages if stage.run.name in GATES]
  for name in accepted:
    if name not in gated:
      known = f"one of: {', '.join(gated)}" if gated else "none, as the recipe has no gates"
      raise InputError(f"--accept={name}: no stage of this name has a gate, expected {known}")


def pass_gate(config: ConfigDict, folder: pathlib.Path) -> dict[str, float]:
  """Writes what a stage has lost, and stops the recipe if it is too much.

  A measure has lost too much if the whole 95 % interval of its loss is above its bound.

  Args:
    config: a record `GateSettings`.
    folder: DIR; gets gate.json, and report.html with a table.

  Returns:
    MEASURE to its loss; with /low and /high at its end, the interval.

  Raises:
    InputError: if a measurement lacks a bounded measure.
    GateClosed: if one has lost too much.
  """
  settings = parse(GateSettings, config)
  found = list(_losses(settings))
  atomic_files.write_text(folder / GATE, json.dumps([dataclasses.asdict(each) for each in found], indent=2) + "\n")
  report.write_report(folder, f"what {settings.stage} may lose", [], {}, {"Bounds": _table(found)})
  metrics = {}
  for each in found:
    name, loss = each.measure, each.loss
    metrics |= {name: loss.value, f"{name}/low": loss.low, f"{name}/high": loss.high}
  if broken := [each.sentence for each in found if each.too_much]:
    message = f"{settings.stage} loses too much: {'; '.join(broken)}; --accept={settings.stage} goes on"
    raise GateClosed(settings.stage, metrics, message)
  return metrics


def _losses(settings: GateSettings) -> Iterator[_Loss]:
  before, after = (read_measured(each.metrics) for each in (settings.before, settings.after))
  paired = _by_request(settings)
  bounds = settings.bounds
  for sign, group, given in ((-1, "may_fall", bounds.may_fall), (1, "may_rise", bounds.may_rise)):
    for name, bound in given.items():
      for where, measured in ((settings.before, before), (settings.after, after)):
        if name not in measured:
          known = ", ".join(sorted(measured)) or "none"
          raise InputError(f"bounds.{group}.{name}: {where.metrics} has no such measure, expected one of: {known}")
      gain = paired[name] if name in paired else _difference(before[name], after[name])
      ends = sorted((sign * gain.low, sign * gain.high))
      yield _Loss(name, before[name].value, after[name].value, Measured(sign * gain.value, *ends), bound)


def _by_request(settings: GateSettings) -> dict[str, Measured]:
  """Returns the gains of all measures of answers; none where answers are not there."""
  if not (settings.before.answers and settings.after.answers):
    return {}
  return gains.gained(settings.before.answers, settings.after.answers, seed=settings.seed)


def _difference(before: Measured, after: Measured) -> Measured:
  """Subtracts two measures whose errors are independent."""
  value = after.value - before.value
  down = math.hypot(after.value - after.low, before.high - before.value)
  up = math.hypot(after.high - after.value, before.value - before.low)
  return Measured(value, value - down, value + up)


def _table(found: list[_Loss]) -> Table:
  rows: list[list[Any]] = [
    [
      each.measure,
      f"{each.before:.3f}",
      f"{each.after:.3f}",
      f"{each.loss.value:.3f} [{each.loss.low:.3f}, {each.loss.high:.3f}]",
      f"{each.bound:g}",
      "too much" if each.too_much else "within",
    ]
    for each in found
  ]
  return ["measure", "before", "after", "loss", "bound", ""], rows
