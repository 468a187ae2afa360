"""Draws the report's panels as SVG with the page's colours and fonts.

One figure serves the light and the dark page. Matplotlib writes fixed colours; here it writes placeholders, which
become CSS variables afterwards: `--ink`, `--rule` and `--c0` to `--c7`. The palette behind the variables follows Okabe
and Ito's, which readers with any common colour blindness can tell apart. Curves differ in their dashes too.
"""

import html
import io
import re

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from posttrain_jax.reports.panel import Columns, Kind, Panel, is_zero

PALETTE_SIZE = 8
DASHES = ("", "5 2", "2 2", "7 2 2 2")  # SVG dash arrays, in line order
_INK, _RULE, _SERIES = "#0a0b0c", "#0a0b0d", "#0a0c{:02d}"
_STYLE = {
  "svg.fonttype": "none",  # text stays text
  "font.size": 8,
  "text.color": _INK,
  "axes.labelcolor": _INK,
  "axes.edgecolor": _RULE,
  "axes.linewidth": 0.8,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.grid": True,
  "axes.grid.axis": "y",
  "axes.axisbelow": True,
  "axes.unicode_minus": True,
  "axes.formatter.limits": (-3, 5),
  "axes.formatter.useoffset": False,
  "grid.color": _RULE,
  "grid.linewidth": 0.5,
  "xtick.color": _RULE,
  "xtick.labelcolor": _INK,
  "ytick.color": _RULE,
  "ytick.labelcolor": _INK,
  "ytick.left": False,
  "lines.solid_capstyle": "round",
}
_SIZE = (5.0, 2.4)  # inches
LEAST_SPAN = 0.1  # of a y axis, as a share of the largest absolute value on it
_PLACE = (0.135, 0.175, 0.835, 0.76)  # left, bottom, width, height of the axes; equal in all panels, so they line up


def smoothing_window(points: int) -> int:
  """Returns the width of the centred running mean over a noisy curve.

  The width is odd and about a 20th of the points. Below 30 points it is 1: no smoothing.
  """
  return 1 if points < 30 else 2 * (points // 40) + 1


def draw(panel: Panel, columns: Columns) -> str:
  """Returns the panel as one <svg> element; the page adds title and legend."""
  with matplotlib.rc_context({**_STYLE, "svg.hashsalt": panel.title}):
    figure = Figure(figsize=_SIZE, facecolor="none")
    axes = figure.add_axes(_PLACE, facecolor="none")
    if panel.kind == Kind.STACKED:
      _stack(axes, panel, columns)
    else:
      _lines(axes, panel, columns)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.unit)
    axes.yaxis.set_label_coords(-0.125, 0.5)
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
    return _themed(figure, panel.title)


def _lines(axes: Axes, panel: Panel, columns: Columns) -> None:
  for order, curve in enumerate(panel.curves):
    present = np.isfinite(columns[curve.key])
    x, y = columns["step"][present], columns[curve.key][present]
    color = _SERIES.format(curve.color % PALETTE_SIZE)
    window = smoothing_window(len(x)) if panel.smooth else 1
    dashes = DASHES[order % len(DASHES)]
    style = (0, [float(part) / 1.6 for part in dashes.split()]) if dashes else "-"
    marker = dict(marker="o", markersize=3) if len(x) <= 25 else {}
    if curve.band is not None:
      low, high = (columns[end][present] for end in curve.band)
      axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    if window > 1:
      axes.plot(x, y, color=color, linewidth=0.8, alpha=0.3)
      # The mean is drawn only where the window is full: a narrower one at the ends would bend a trend or follow noise.
      x, y = x[window // 2 : -(window // 2)], np.convolve(y, np.ones(window) / window, "valid")
    axes.plot(x, y, color=color, linewidth=1.6, linestyle=style, **marker)
  if panel.kind == Kind.LOG and any((columns[curve.key] > 0).any() for curve in panel.curves):
    axes.set_yscale("log")
  elif panel.share:
    axes.set_ylim(-0.02, 1.02)
  elif is_zero(columns, panel):
    axes.set_ylim(-0.02, 1.02)  # what stays at 0 has no scale of its own
  else:
    keep_flat(axes, noise=panel.noise)


def keep_flat(axes: Axes, *, noise: float = 0.0) -> None:
  """Widens the y axis, if need be, so that a curve that hardly moves looks flat.

  The axis spans at least `LEAST_SPAN` of the largest absolute value on it, and at least ten times the noise.

  Args:
    axes: with its curves drawn.
    noise: size of values that are rounding.
  """
  low, high = axes.get_ylim()
  least = max(LEAST_SPAN * max(abs(low), abs(high)), 10 * noise)
  if high - low < least:
    middle = (low + high) / 2
    axes.set_ylim(middle - least / 2, middle + least / 2)


def _stack(axes: Axes, panel: Panel, columns: Columns) -> None:
  heights = np.stack([columns[curve.key] for curve in panel.curves])
  present = np.isfinite(heights).any(axis=0)  # the record of an evaluation before the first step has no heights
  x, heights = columns["step"][present], np.nan_to_num(heights[:, present])
  if len(x) == 1:  # an area needs two points
    x, heights = np.array([x[0] - 0.5, x[0] + 0.5]), np.repeat(heights, 2, axis=1)
  below = np.zeros(len(x))
  for curve, height in zip(panel.curves, heights):
    above = below + height
    color = _SERIES.format(curve.color % PALETTE_SIZE)
    axes.fill_between(x, below, above, color=color, alpha=0.85, linewidth=0, step="mid")
    below = above
  axes.set_ylim(0, None)


def _themed(figure: Figure, title: str) -> str:
  file = io.StringIO()
  FigureCanvasSVG(figure).print_svg(file, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
  svg = file.getvalue()
  view = re.search(r'viewBox="[^"]*"', svg)[0]
  start = svg.index("<svg")
  svg = f'<svg {view} role="img" aria-label="{html.escape(title)}">' + svg[svg.index(">", start) + 1 :]
  svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would apply to the whole page
  svg = re.sub(r' id="[\w.]+_\d+"', "", svg)  # nothing refers to these ids, and figures repeat them
  svg = re.sub(r" font-family: [^;]*;", "", svg)
  # Two decimals of a point are enough inside tags. Between tags is text, such as tick labels, which keeps its digits.
  svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), svg)
  svg = svg.replace(_INK, "var(--ink)").replace(_RULE, "var(--rule)")
  return re.sub(r"#0a0c0(\d)", r"var(--c\1)", svg)
