"""Draws what models gain by one measure against what they lose by another."""

import dataclasses
import itertools
import json
import pathlib
from collections.abc import Mapping

from matplotlib.axes import Axes
from ml_collections import ConfigDict

from posttrain_jax import atomic_files
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.recipes.measures import Measured, read_measured
from posttrain_jax.reports.picture import COLORS, MUTED, picture
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError

TRADEOFF, PICTURE = "tradeoff.json", "tradeoff.png"
_MARKERS, _LINES = "osD^v", ("-", "--", ":")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlottedModel:
  """Describes where the measurement of a model is.

  Attributes:
    metrics: its metrics.jsonl.
  """

  metrics: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class TradeoffSettings:
  """Holds the config of a trade-off.

  Attributes:
    models: the models by name.
    across: measure on the horizontal axis.
    up: measure on the vertical axis.
    less_is_better: which of the two are better the less they are; their axes are turned round.
    lines: title to the models that a line joins, in order.
  """

  models: Mapping[str, PlottedModel]
  across: str
  up: str
  less_is_better: tuple[str, ...]
  lines: Mapping[str, tuple[str, ...]]

  def __post_init__(self):
    """Raises InputError if there is no model, or if a name stands for nothing."""
    if not self.models:
      raise InputError("models: found none, expected some to compare")
    for title, names in self.lines.items():
      for name in names:
        if name not in self.models:
          raise InputError(f"lines.{title}: {name!r} is no model, expected one of: {', '.join(self.models)}")
    for name in self.less_is_better:
      if name not in (self.across, self.up):
        raise InputError(f"less_is_better: {name!r} is on no axis, expected {self.across} or {self.up}")


def of_models(
  *names: str, across: str, up: str, less_is_better: tuple[str, ...] = (), lines: Mapping[str, tuple[str, ...]]
) -> ConfigDict:
  """Returns the config of a trade-off, whose inputs are `models.NAME.metrics`."""
  models = {name: dict(metrics="") for name in names}
  return ConfigDict(dict(models=models, across=across, up=up, less_is_better=less_is_better, lines=dict(lines)))


check = check_of(TradeoffSettings)


def draw(config: ConfigDict, folder: pathlib.Path) -> dict[str, int]:
  """Draws each model as a point with both intervals.

  Args:
    config: a record `TradeoffSettings`.
    folder: DIR; gets tradeoff.png, and tradeoff.json with all points.

  Returns:
    MODEL/best, 1 if no other model is better by one of the measures and at least as good by the other, else 0.

  Raises:
    InputError: if a measurement lacks one of the measures.
  """
  settings = parse(TradeoffSettings, config)
  points = {name: _point(each.metrics, settings) for name, each in settings.models.items()}
  atomic_files.write_text(folder / TRADEOFF, json.dumps(points, indent=2) + "\n")
  _picture(folder / PICTURE, points, settings)
  signs = [-1 if name in settings.less_is_better else 1 for name in (settings.across, settings.up)]
  values = {name: tuple(sign * each.value for sign, each in zip(signs, pair)) for name, pair in points.items()}
  return {f"{name}/best": int(not any(_beats(other, own) for other in values.values())) for name, own in values.items()}


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
  """Tells whether one point is at least as good by both measures, and better by one."""
  return all(a >= b for a, b in zip(one, other)) and one != other


def _point(path: str, settings: TradeoffSettings) -> tuple[Measured, Measured]:
  found = read_measured(path)
  for name in (settings.across, settings.up):
    if name not in found:
      raise InputError(f"{path}: found no {name}, expected one of: {', '.join(sorted(found)) or 'none'}")
  return found[settings.across], found[settings.up]


def _picture(path: pathlib.Path, points: Mapping[str, tuple[Measured, Measured]], settings: TradeoffSettings) -> None:
  with picture(path, width=7.4, height=4.4) as figure:
    axes = figure.subplots()
    for (title, names), style in zip(settings.lines.items(), itertools.cycle(_LINES)):
      joined = [points[name] for name in names]
      across, up = ([each.value for each in values] for values in zip(*joined))
      axes.plot(across, up, color=MUTED, linestyle=style, label=title, linewidth=1.0, zorder=1)
    styles = itertools.product(_MARKERS, COLORS)
    for (name, (across, up)), (marker, color) in zip(points.items(), itertools.cycle(styles)):
      errors = dict(xerr=_error(across), yerr=_error(up), elinewidth=0.7)
      axes.errorbar(
        across.value, up.value, color=color, marker=marker, markersize=6, linestyle="", label=name, **errors
      )
    _name(axes, settings)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)


def _error(each: Measured) -> list[list[float]]:
  return [[max(0.0, each.value - each.low)], [max(0.0, each.high - each.value)]]


def _name(axes: Axes, settings: TradeoffSettings) -> None:
  axes.set_xlabel(settings.across)
  axes.set_ylabel(settings.up)
  if settings.across in settings.less_is_better:
    axes.invert_xaxis()
  if settings.up in settings.less_is_better:
    axes.invert_yaxis()
