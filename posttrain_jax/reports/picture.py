"""Writes figures as PNG files, all in one style."""

import contextlib
import pathlib
from collections.abc import Iterator

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK, MUTED, RULE = "#1f2933", "#616e7c", "#d9dee4"
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # of lines, told apart by all eyes
_DOTS_PER_INCH = 160
_STYLE = {
  "font.size": 9,
  "text.color": INK,
  "axes.labelcolor": INK,
  "axes.edgecolor": RULE,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.grid": True,
  "axes.axisbelow": True,
  "grid.color": RULE,
  "grid.linewidth": 0.5,
  "xtick.color": RULE,
  "xtick.labelcolor": INK,
  "ytick.color": RULE,
  "ytick.labelcolor": INK,
}


@contextlib.contextmanager
def picture(path: str | pathlib.Path, *, width: float, height: float) -> Iterator[Figure]:
  """Yields an empty figure to draw on, then writes it as a PNG.

  The style holds inside the `with` block only. If the block raises, no file is written.

  Args:
    path: of the PNG; an existing one is replaced.
    width: inches.
    height: inches.
  """
  with matplotlib.rc_context(_STYLE):
    figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH, layout="constrained")
    yield figure
    FigureCanvasAgg(figure).print_png(str(path))
