"""Describes a plot of the report: its curves, which are columns of metrics.jsonl."""

import dataclasses
import enum
import re
from collections.abc import Mapping, Sequence

import numpy as np

Columns = Mapping[str, np.ndarray]  # key → float64 [steps], NaN where a step has no such value; always has "step"


class Kind(enum.Enum):
  """Names the ways to draw a panel."""

  LINES = enum.auto()
  STACKED = enum.auto()  # areas on top of each other that add up to a total
  LOG = enum.auto()  # lines on a logarithmic axis


@dataclasses.dataclass(frozen=True)
class PanelCurve:
  """Describes one curve of a panel.

  Attributes:
    key: its column.
    label: its name in the legend.
    color: index of its colour in the palette of `reports.figures`.
    band: columns of its interval's lower and upper end; None without an interval.
  """

  key: str
  label: str
  color: int
  band: tuple[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class Panel:
  """Describes one plot.

  Attributes:
    title: what it shows.
    unit: the y axis label, with the unit.
    curves: what is drawn, in this order.
    note: one sentence on how to read it.
    kind: how it is drawn.
    share: whether values lie in [0, 1].
    smooth: whether a running mean is drawn if there are many points.
    x_label: the x axis label.
    noise: values up to this size are rounding: they count as 0, and the y axis is never finer than ten of them.
  """

  title: str
  unit: str
  curves: tuple[PanelCurve, ...]
  note: str = ""
  kind: Kind = Kind.LINES
  share: bool = False
  smooth: bool = True
  x_label: str = "step"
  noise: float = 0.0


def panel(
  title: str,
  unit: str,
  curves: Mapping[str, str],
  *,
  colors: Sequence[int] | None = None,
  note: str = "",
  kind: Kind = Kind.LINES,
  share: bool = False,
  smooth: bool = True,
  x_label: str = "step",
  noise: float = 0.0,
) -> Panel:
  """Returns a panel.

  Args:
    title: what it shows.
    unit: the y axis label.
    curves: column → label in the legend.
    colors: of each curve; 0, 1, ... unless given.
    note: one sentence on how to read it.
    kind: how it is drawn.
    share: whether values lie in [0, 1].
    smooth: whether a running mean is drawn if there are many points.
    x_label: the x axis label.
    noise: values up to this size are rounding.
  """
  colors = range(len(curves)) if colors is None else colors
  drawn = tuple(PanelCurve(key, label, color) for (key, label), color in zip(curves.items(), colors))
  return Panel(title, unit, drawn, note, kind, share, smooth, x_label, noise)


def with_interval(columns: Columns, key: str, label: str, color: int) -> PanelCurve:
  """Returns a key's curve, with an interval if the columns `KEY_low` and `KEY_high` exist."""
  band = (f"{key}_low", f"{key}_high")
  return (
    PanelCurve(key, f"{label}, 95 % interval", color, band)
    if set(band) <= set(columns)
    else PanelCurve(key, label, color)
  )


def evaluation_sets(columns: Columns) -> dict[str, int]:
  """Maps each set of sampled answers to its largest k with an avg@k.

  The sets are in order of appearance. k is 0 where no answer has a verdict, as with prompts that only a reward model
  judges.
  """
  found: dict[str, int] = {}
  for key in columns:
    match = re.fullmatch(r"eval/([^/]+)/(?:avg@(\d+)|reward)", key)
    if match:
      found[match[1]] = max(int(match[2] or 0), found.get(match[1], 0))
  return found


def measured(columns: Columns, key: str) -> bool:
  """Tells whether any step has a finite number for the key."""
  return key in columns and bool(np.isfinite(columns[key]).any())


def present(columns: Columns, panels: Sequence[Panel]) -> list[Panel]:
  """Leaves out curves without values, and panels without curves."""
  result = []
  for each in panels:
    curves = tuple(curve for curve in each.curves if measured(columns, curve.key))
    if curves:
      result.append(dataclasses.replace(each, curves=curves))
  return result


def is_zero(columns: Columns, panel: Panel) -> bool:
  """Tells whether no value of a panel differs from 0 by more than its noise."""
  return all((np.abs(np.nan_to_num(columns[curve.key])) <= panel.noise).all() for curve in panel.curves)
