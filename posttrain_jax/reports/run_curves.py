"""Draws metrics of several runs: a panel for each metric, a line for each run."""

import difflib
import math
import os
import pathlib
import textwrap
from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from posttrain_jax.local_path import local_path
from posttrain_jax.reports import run_metrics
from posttrain_jax.reports.figures import keep_flat, smoothing_window
from posttrain_jax.reports.metric_titles import axis_label, title_and_unit
from posttrain_jax.reports.panel import Columns, measured
from posttrain_jax.types import InputError

FORMATS = (".png", ".svg", ".pdf")
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#b0578d", "#b87d00", "#3b9bd0", "#6d6d6d", "#8c6d1f")  # as the report's
_DASHES = ("-", (0, (5, 1.6)), (0, (1.6, 1.4)), (0, (6, 1.5, 1.5, 1.5)))
_INK, _RULE = "#55595e", "#d3d4d0"
_TITLE_WIDTH = 46  # characters
_STYLE = {
  "font.size": 9,
  "axes.edgecolor": _RULE,
  "axes.labelcolor": _INK,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.grid": True,
  "axes.grid.axis": "y",
  "axes.axisbelow": True,
  "axes.titlesize": 10,
  "axes.titleweight": "bold",
  "axes.titlelocation": "left",
  "axes.formatter.limits": (-3, 5),
  "axes.formatter.useoffset": False,
  "grid.color": _RULE,
  "grid.linewidth": 0.6,
  "xtick.color": _RULE,
  "xtick.labelcolor": _INK,
  "ytick.color": _RULE,
  "ytick.labelcolor": _INK,
  "ytick.left": False,
  "legend.frameon": False,
  "svg.fonttype": "none",
  "svg.hashsalt": "run_curves",
}


def write_curves(
  runs: Mapping[str, str | os.PathLike],
  metrics: Sequence[str],
  output: str | os.PathLike,
  *,
  x: str = "updates",
  sqrt_x: bool = False,
) -> list[str]:
  """Draws each metric over `x`, one line a run.

  If a run has METRIC_low and METRIC_high, they become a band. A metric with many points is smoothed: the faint line is
  every point, the bold line the running mean (`figures.smoothing_window`).

  Args:
    runs: label → workdir.
    metrics: keys of metrics.jsonl, one panel each; a run without the metric has no line there.
    output: .png, .svg or .pdf; an existing file is replaced.
    x: the key of the x axis.
    sqrt_x: whether the x axis shows the square root of `x`; an estimate below 0 counts as 0.

  Returns:
    One line for each thing that was left out: a metric that a run lacks, or a line that could not be read.

  Raises:
    InputError: if there is no run or no metric, a workdir or the output's folder does not exist, no run has a metric,
      a run lacks `x`, or `output` has another suffix.
  """
  output = local_path(output, "--output")
  if not runs or not metrics:
    raise InputError(f"found {len(runs)} runs and {len(metrics)} metrics, expected at least one of each")
  if output.suffix not in FORMATS:
    raise InputError(f"{output}: expected a name that ends in {', '.join(FORMATS)}")
  if not output.absolute().parent.is_dir():
    raise InputError(f"{output}: there is no directory {output.parent}")
  notices: list[str] = []
  found = {label: _read(label, local_path(workdir, "--run"), x, notices) for label, workdir in runs.items()}
  for metric in metrics:
    lacking = [label for label, columns in found.items() if not measured(columns, metric)]
    if len(lacking) == len(found):
      raise InputError(f"{metric}: no run has this metric, {_near(metric, found.values())}")
    notices += [f"{label} has no {metric}" for label in lacking]
  x_label = axis_label(x, next(iter(found.values())))
  if sqrt_x:
    x, x_label, root_of = f"√ {x}", f"√ {x_label}", x
    found = {run: columns | {x: np.sqrt(np.maximum(columns[root_of], 0))} for run, columns in found.items()}
  with matplotlib.rc_context(_STYLE):
    _draw(found, metrics, x, x_label).savefig(
      output, dpi=160, metadata={"Date": None} if output.suffix == ".svg" else None
    )
  return notices


def _read(label: str, workdir: pathlib.Path, x: str, notices: list[str]) -> Columns:
  if not workdir.is_dir():
    raise InputError(f"{label}: there is no directory {workdir}, expected the workdir of a run")
  own: list[str] = []
  columns = run_metrics.columns(run_metrics.read_records(workdir / "metrics.jsonl", own))
  if not columns:
    raise InputError(f"{label}: {workdir / 'metrics.jsonl'} has no complete step, expected the metrics of a run")
  if not measured(columns, x):
    raise InputError(f"{x}: {label} has no such metric for the x axis, {_near(x, [columns])}")
  notices += [f"{label}: {notice}" for notice in own]
  return columns


def _near(metric: str, found: Iterable[Columns]) -> str:
  """Suggests metric names: those that contain `metric`, else those spelled like it."""
  known = sorted({key for columns in found for key in columns})
  holding = [key for key in known if metric in key]
  near = holding[:5] or difflib.get_close_matches(metric, known, n=5, cutoff=0.5)
  return f"expected one like {', '.join(near)}" if near else f"expected one of {len(known)}, such as {known[0]}"


def _draw(found: Mapping[str, Columns], metrics: Sequence[str], x: str, x_label: str) -> Figure:
  across = min(len(metrics), 2 if len(metrics) == 4 else 3)
  down = math.ceil(len(metrics) / across)
  figure = Figure(figsize=(4.3 * across, 2.9 * down + 0.4), layout="constrained")
  grid = figure.subplots(down, across, squeeze=False).flat
  handles = {}
  for axes, metric in zip(grid, metrics):
    for order, (label, columns) in enumerate(found.items()):
      if measured(columns, metric):
        line = _line(axes, columns, metric, x, order)
        handles.setdefault(label, line)
    keep_flat(axes)
    low, high = axes.get_ylim()
    if low < 0 < high:
      axes.axhline(0, color=_INK, linewidth=0.8, zorder=1)
    title, unit = title_and_unit(metric, next(columns for columns in found.values() if measured(columns, metric)))
    axes.set_title(textwrap.fill(title, _TITLE_WIDTH), color="#1d1f21")
    axes.set_ylabel(unit)
    axes.set_xlabel(x_label)
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=x in ("updates", "step"), steps=[1, 2, 5, 10]))
  for axes in list(grid)[len(metrics) :]:
    axes.set_visible(False)
  in_order = [label for label in found if label in handles]
  figure.legend(
    [handles[label] for label in in_order],
    in_order,
    loc="outside upper left",
    ncols=min(len(in_order), 3 * across),
    handlelength=2.6,
    fontsize=10,
  )
  return figure


def _line(axes: Axes, columns: Columns, metric: str, x: str, order: int) -> Line2D:
  """Draws one run's line and returns it."""
  present = np.isfinite(columns[metric]) & np.isfinite(columns[x])
  at, values = columns[x][present], columns[metric][present]
  color, dashes = _COLORS[order % len(_COLORS)], _DASHES[order % len(_DASHES)]
  ends = (f"{metric}_low", f"{metric}_high")
  if all(measured(columns, end) for end in ends):
    low, high = (columns[end][present] for end in ends)
    axes.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)
  window = smoothing_window(len(at))
  if window > 1:
    axes.plot(at, values, color=color, linewidth=0.7, alpha=0.3)
    at, values = at[window // 2 : -(window // 2)], np.convolve(values, np.ones(window) / window, "valid")
  marker = dict(marker="o", markersize=3.5) if len(at) <= 25 else {}
  return axes.plot(at, values, color=color, linewidth=1.8, linestyle=dashes, **marker)[0]
