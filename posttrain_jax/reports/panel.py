"""What a plot of the report is: curves, each a column of metrics.jsonl, and how they are drawn."""

import dataclasses
import enum
import re
from collections.abc import Mapping, Sequence

import numpy as np

Columns = Mapping[str, np.ndarray]  # key → float64 [steps], NaN where a step has no such value; always with "step"


class Kind(enum.Enum):
  """How a panel is drawn."""

  LINES = enum.auto()
  STACKED = enum.auto()  # areas on top of each other that add up to a total
  LOG = enum.auto()  # lines on a logarithmic axis


@dataclasses.dataclass(frozen=True)
class Curve:
  """One curve of a panel.

  Attributes:
    key: its column.
    label: its name in the legend.
    color: number of its colour in the palette of `reports.figures`.
    band: columns of the lower and upper end of its interval; None for none.
  """

  key: str
  label: str
  color: int
  band: tuple[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class Panel:
  """One plot.

  Attributes:
    title: what it shows.
    unit: the y axis label, with the unit.
    curves: what is drawn, in this order.
    note: one sentence on how to read it.
    kind: how it is drawn.
    share: whether values lie in [0, 1].
    smooth: whether a running mean is drawn over many points.
    x_label: the x axis label.
  """

  title: str
  unit: str
  curves: tuple[Curve, ...]
  note: str = ""
  kind: Kind = Kind.LINES
  share: bool = False
  smooth: bool = True
  x_label: str = "step"


def panel(title: str, unit: str, curves: Mapping[str, str], *, colors: Sequence[int] | None = None, **options) -> Panel:
  """A panel of `curves`, column → label; colours are taken in order unless given."""
  colors = range(len(curves)) if colors is None else colors
  return Panel(title, unit, tuple(Curve(*curve, color) for curve, color in zip(curves.items(), colors)), **options)


def with_interval(columns: Columns, key: str, label: str, color: int) -> Curve:
  """The curve of a key, with its interval where there are `KEY_low` and `KEY_high`."""
  band = (f"{key}_low", f"{key}_high")
  return Curve(key, f"{label}, 95 % interval", color, band) if set(band) <= set(columns) else Curve(key, label, color)


def evaluation_sets(columns: Columns) -> dict[str, int]:
  """Names of the evaluation sets, in order of appearance, with the largest k that each has an avg@k for."""
  found: dict[str, int] = {}
  for key in columns:
    match = re.fullmatch(r"eval/([^/]+)/avg@(\d+)", key)
    if match:
      found[match[1]] = max(int(match[2]), found.get(match[1], 0))
  return found


def measured(columns: Columns, key: str) -> bool:
  """Whether there is any number of that name."""
  return key in columns and bool(np.isfinite(columns[key]).any())


def present(columns: Columns, panels: Sequence[Panel]) -> list[Panel]:
  """The panels without the curves that have no values; a panel without curves is left out."""
  result = []
  for each in panels:
    curves = tuple(curve for curve in each.curves if measured(columns, curve.key))
    if curves:
      result.append(dataclasses.replace(each, curves=curves))
  return result
