"""Compares the models of a recipe's stages by all measures, as a table and a picture."""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from posttrain_jax.evaluation.metrics import Estimate
from posttrain_jax.recipes.outcome import measured_model, metrics_of
from posttrain_jax.recipes.recipe import Stage
from posttrain_jax.recipes.tables import Table
from posttrain_jax.reports.picture import picture

_COLUMNS = 4  # panels in a row of the picture
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # of the sets


class Measured(NamedTuple):
  """Holds a measure of one model with its 95 % interval."""

  value: float
  low: float
  high: float

  @classmethod
  def of(cls, each: Estimate) -> "Measured":
    """Returns an estimate without its standard error."""
    return cls(each.mean, each.low, each.high)


Measures = Mapping[str, Mapping[str, Measured]]  # model → measure → value


def measures(stages: Sequence[Stage], metrics: Mapping[str, Mapping[str, Any]]) -> Measures:
  """Collects what was measured of each model.

  What a stage measures of another one's model stands with that model. Where no stage does so, the evaluations of
  training stages stand for it: the last one of each. If a model is measured twice, or two models from outside the
  recipe are, the second measurement stands under its own name.

  Args:
    stages: of the recipe.
    metrics: stage to its metrics; only those with an interval (NAME_low, NAME_high) are measures.
  """
  evaluators = [stage for stage in stages if not stage.run.has_model and with_interval(metrics.get(stage.name, {}))]
  found: dict[str, dict[str, Measured]] = {}
  for stage in evaluators or stages:
    own, name = with_interval(metrics.get(stage.name, {})), measured_model(stage)
    if found.get(name, {}).keys() & own.keys():
      name = stage.name
    found.setdefault(name, {}).update(own)
  first = sorted(found, key=lambda name: name != "base")  # the base model comes first
  return {name: found[name] for name in first if found[name]}


def names(found: Measures) -> list[str]:
  """Returns the names of all measures; of a set's pass@k only the largest k."""
  every = list(dict.fromkeys(name for each in found.values() for name in each))
  largest: dict[str, int] = {}
  for name in every:
    if match := re.fullmatch(r"(.*)pass@(\d+)", name):
      largest[match[1]] = max(largest.get(match[1], 0), int(match[2]))
  passes = {f"{prefix}pass@{k}" for prefix, k in largest.items()}
  return [name for name in every if "pass@" not in name or name in passes]


def measure_table(found: Measures) -> Table:
  """Returns a row for each measure, with the models from left to right: "value [low, high]"."""
  body = [[name, *(_cell(each.get(name)) for each in found.values())] for name in names(found)]
  return ["measure", *found], body


def draw(path: pathlib.Path, found: Measures) -> bool:
  """Draws a panel for each measure, with a line for each set.

  The models stand from left to right.

  Args:
    path: of the PNG; an existing one is replaced.
    found: the measures.

  Returns:
    Whether there was something to draw.
  """
  panels = _panels(names(found))
  if not panels:
    return False
  wide = min(_COLUMNS, len(panels))
  high = -(-len(panels) // wide)
  models = list(found)
  with picture(path, width=max(3.0, 0.35 * len(models) + 1.6) * wide, height=2.8 * high + 0.6) as figure:
    every = figure.subplots(high, wide, squeeze=False).ravel()
    for axes, (measure, sets) in zip(every, panels.items()):
      for number, (name, label) in enumerate(sets.items()):
        _line(axes, [found[model].get(name) for model in models], _COLORS[number % len(_COLORS)], label)
      axes.set_title(measure, loc="left", fontsize=9)
      axes.set_xticks(range(len(models)), models, rotation=60, ha="right", fontsize=7)
      axes.set_xlim(-0.5, len(models) - 0.5)
      if len(sets) > 1:
        axes.legend(frameon=False, fontsize=7)
    for axes in every[len(panels) :]:
      axes.set_axis_off()
  return True


def _panels(every: Sequence[str]) -> dict[str, dict[str, str]]:
  """Groups SET/MEASURE by measure.

  Returns:
    Title of a panel to the names of its measures, each with its set. A set's name stands in the title if it is alone.
  """
  grouped: dict[str, dict[str, str]] = {}
  for name in every:
    of, _, measure = name.rpartition("/")
    grouped.setdefault(measure, {})[name] = of
  return {measure if len(sets) > 1 else next(iter(sets)): sets for measure, sets in grouped.items()}


def _line(axes: Axes, values: Sequence[Measured | None], color: str, label: str) -> None:
  there = [index for index, value in enumerate(values) if value is not None]
  array = np.array([values[index] for index in there], np.float64)
  errors = np.maximum(0.0, np.stack([array[:, 0] - array[:, 1], array[:, 2] - array[:, 0]]))
  axes.errorbar(
    there, array[:, 0], errors, color=color, label=label, marker="o", markersize=4, linewidth=1.2, capsize=2
  )


def read_measured(path: str) -> dict[str, Measured]:
  """Returns the measures of a metrics.jsonl that have an interval; none without such a file."""
  return with_interval(metrics_of(pathlib.Path(path).parent, None))


def with_interval(metrics: Mapping[str, Any], mark: str = "_") -> dict[str, Measured]:
  """Returns the numbers of which there is an interval, without `eval/` before their names.

  Args:
    metrics: of a stage.
    mark: between a name and `low` or `high`; a slash in the metrics of stages that compare models.
  """
  found = {}
  for name, value in metrics.items():
    low, high = (metrics.get(f"{name}{mark}{end}") for end in ("low", "high"))
    if isinstance(low, int | float) and isinstance(high, int | float) and isinstance(value, int | float):
      found[name.removeprefix("eval/")] = Measured(value, low, high)
  return found


def _cell(each: Measured | None) -> str:
  return "–" if each is None else f"{each.value:.3f} [{each.low:.3f}, {each.high:.3f}]"
