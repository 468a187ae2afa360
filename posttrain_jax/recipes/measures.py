"""Compares the models of a recipe's stages by all measures, as a table and a picture."""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from posttrain_jax.recipes.outcome import measured_model
from posttrain_jax.recipes.recipe import Stage
from posttrain_jax.recipes.tables import Table
from posttrain_jax.reports.picture import picture

_COLUMNS = 4  # panels in a row of the picture
_COLOR = "#0072b2"


class Measured(NamedTuple):
  """Holds a measure of one model with its 95 % interval."""

  value: float
  low: float
  high: float


Measures = Mapping[str, Mapping[str, Measured]]  # model → measure → value


def measures(stages: Sequence[Stage], metrics: Mapping[str, Mapping[str, Any]]) -> Measures:
  """Collects what was measured of each model.

  What a stage measures of another one's model stands with that model. Where no stage does so, the evaluations of
  training stages stand for it: the last one of each.

  Args:
    stages: of the recipe.
    metrics: stage to its metrics; only those with an interval (NAME_low, NAME_high) are measures.
  """
  evaluators = [stage for stage in stages if not stage.run.has_model and _with_interval(metrics.get(stage.name, {}))]
  found: dict[str, dict[str, Measured]] = {}
  names = [measured_model(stage) for stage in evaluators or stages]
  for name in sorted(dict.fromkeys(names), key=lambda name: name != "base"):  # the base model comes first
    found[name] = {}
  for stage in evaluators or stages:
    found[measured_model(stage)] |= _with_interval(metrics.get(stage.name, {}))
  return {name: each for name, each in found.items() if each}


def columns(found: Measures) -> list[str]:
  """Returns the names of all measures; of a set's pass@k only the largest k."""
  names = list(dict.fromkeys(name for each in found.values() for name in each))
  largest: dict[str, int] = {}
  for name in names:
    if match := re.fullmatch(r"(.*)pass@(\d+)", name):
      largest[match[1]] = max(largest.get(match[1], 0), int(match[2]))
  passes = {f"{prefix}pass@{k}" for prefix, k in largest.items()}
  return [name for name in names if "pass@" not in name or name in passes]


def measure_table(found: Measures) -> Table:
  """Returns a row for each model: its measures as "value [low, high]"."""
  names = columns(found)
  body = [[model, *(_cell(each.get(name)) for name in names)] for model, each in found.items()]
  return ["model", *names], body


def draw(path: pathlib.Path, found: Measures) -> bool:
  """Draws a panel for each measure, with the models from left to right.

  Args:
    path: of the PNG; an existing one is replaced.
    found: the measures.

  Returns:
    Whether there was something to draw.
  """
  names = columns(found)
  if not names:
    return False
  wide = min(_COLUMNS, len(names))
  high = -(-len(names) // wide)
  models = list(found)
  with picture(path, width=max(3.0, 0.35 * len(models) + 1.6) * wide, height=2.8 * high + 0.6) as figure:
    panels = figure.subplots(high, wide, squeeze=False).ravel()
    for axes, name in zip(panels, names):
      there = [index for index, model in enumerate(models) if name in found[model]]
      values = np.array([found[models[index]][name] for index in there], np.float64)
      errors = np.maximum(0.0, np.stack([values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]]))
      axes.errorbar(there, values[:, 0], errors, color=_COLOR, marker="o", markersize=4, linewidth=1.2, capsize=2)
      axes.set_title(name, loc="left", fontsize=9)
      axes.set_xticks(range(len(models)), models, rotation=60, ha="right", fontsize=7)
      axes.set_xlim(-0.5, len(models) - 0.5)
    for axes in panels[len(names) :]:
      axes.set_axis_off()
  return True


def _with_interval(metrics: Mapping[str, Any]) -> dict[str, Measured]:
  found = {}
  for name, value in metrics.items():
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    if isinstance(low, int | float) and isinstance(high, int | float) and isinstance(value, int | float):
      found[name.removeprefix("eval/")] = Measured(value, low, high)
  return found


def _cell(each: Measured | None) -> str:
  return "–" if each is None else f"{each.value:.3f} [{each.low:.3f}, {each.high:.3f}]"
