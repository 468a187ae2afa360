"""Draws what runs of RL measured over steps, and finds when a level was reached."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.reports.picture import COLORS, picture
from posttrain_jax.runs.journal import read_metrics
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError

CURVES, PICTURE = "curves.json", "curves.png"
_WINDOW = 5  # steps whose mean is compared with the level, and which count as a run's end
_GENERATED = "sampling/tokens_generated"
_COLUMNS = 3  # panels in a row


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedRun:
  """Describes a run.

  Attributes:
    path: its metrics.jsonl.
  """

  path: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurveSettings:
  """Holds the config of curves.

  Attributes:
    runs: the runs by name.
    metrics: metric to its title.
    level_of: the metric whose level is waited for.
    level: the level.
  """

  runs: Mapping[str, TrainedRun]
  metrics: Mapping[str, str]
  level_of: str
  level: float


def of_runs(*names: str, metrics: Mapping[str, str], level_of: str, level: float) -> ConfigDict:
  """Returns the config of curves, whose inputs are `runs.NAME.path`."""
  runs = {name: dict(path="") for name in names}
  return ConfigDict(dict(runs=runs, metrics=dict(metrics), level_of=level_of, level=level), convert_dict=True)


check = check_of(CurveSettings, {"runs": "some to draw", "metrics": "some to draw"})


def draw(config: ConfigDict, folder: pathlib.Path) -> dict[str, float]:
  """Draws a panel for each metric, with a curve for each run.

  Args:
    config: a record `CurveSettings`.
    folder: DIR; gets curves.png, and curves.json with all points.

  Returns:
    RUN/TITLE, the mean of a metric over the last five steps; RUN/steps_to_level, the first step that ends five whose
    mean reaches the level, and RUN/tokens_to_level, the tokens drawn until then; NaN for a level that is not reached.

  Raises:
    InputError: if a run has no such metric.
  """
  settings = parse(CurveSettings, config)
  points = {name: _points(each.path, settings) for name, each in settings.runs.items()}
  folder.mkdir(parents=True, exist_ok=True)
  atomic_files.write_text(folder / CURVES, json.dumps(points, indent=2) + "\n")
  _picture(folder / PICTURE, points, settings.metrics)
  found = {}
  for name, curves in points.items():
    found |= {
      f"{name}/{title}": float(np.mean(curves[metric][-_WINDOW:])) for metric, title in settings.metrics.items()
    }
    reached = steps_to(curves[settings.level_of], settings.level)
    drawn = np.nan if reached is None else float(np.sum(curves[_GENERATED][:reached]))
    found |= {f"{name}/steps_to_level": np.nan if reached is None else float(reached), f"{name}/tokens_to_level": drawn}
  return found


def steps_to(values: Sequence[float], level: float) -> int | None:
  """Returns the first step at which the mean of five reaches a level.

  It is None if none does.

  Args:
    values: of the steps 1, 2, ...
    level: the level.
  """
  if len(values) < _WINDOW:
    return None
  means = np.convolve(values, np.ones(_WINDOW) / _WINDOW, mode="valid")
  reached = np.flatnonzero(means >= level)
  return int(reached[0]) + _WINDOW if len(reached) else None


def _points(path: str, settings: CurveSettings) -> dict[str, list[float]]:
  """Returns metric to its values at the steps 1, 2, ..."""
  records = read_metrics(path)
  found = {}
  for metric in dict.fromkeys((*settings.metrics, settings.level_of, _GENERATED)):
    found[metric] = [_value(record[metric]) for record in records if record["step"] > 0 and metric in record]
    if not found[metric]:
      raise InputError(f"{path}: found no {metric}, expected the metrics of a run of RL that has it")
  return found


def _value(value: Any) -> float:
  return float(value) if isinstance(value, int | float) else np.nan


def _picture(path: pathlib.Path, points: Mapping[str, Mapping[str, list[float]]], titles: Mapping[str, str]) -> None:
  wide = min(_COLUMNS, len(titles))
  high = -(-len(titles) // wide)
  with picture(path, width=3.4 * wide, height=2.6 * high) as figure:
    panels = figure.subplots(high, wide, squeeze=False).ravel()
    for axes, (metric, title) in zip(panels, titles.items()):
      for number, (name, curves) in enumerate(points.items()):
        values = curves[metric]
        axes.plot(range(1, len(values) + 1), values, color=COLORS[number % len(COLORS)], label=name, linewidth=1.2)
      axes.set_title(title, loc="left", fontsize=9)
      axes.set_xlabel("step", fontsize=8)
    for axes in panels[len(titles) :]:
      axes.set_axis_off()
    panels[0].legend(frameon=False, fontsize=7)
