"""Draws the reliability diagram: observed frequency over claimed probability."""

import pathlib
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from posttrain_jax.evaluation.calibration import brier_score, expected_calibration_error, reliability, wilson_interval
from posttrain_jax.reports.picture import MUTED, picture

_SERIES = "#0072b2"


def plot_reliability(
  path: str | pathlib.Path,
  probabilities: np.ndarray,
  outcomes: np.ndarray,
  *,
  bins: int = 10,
  title: str = "Reliability",
) -> None:
  """Writes the reliability diagram of one kind of claims as PNG; see `plot_reliabilities`."""
  plot_reliabilities(path, {title: (probabilities, outcomes)}, bins=bins)


def plot_reliabilities(
  path: str | pathlib.Path, claims: Mapping[str, tuple[np.ndarray, np.ndarray]], *, bins: int = 10
) -> None:
  """Writes the reliability diagrams of several kinds of claims as PNG.

  Histograms of the claims stand below them. Vertical lines are Wilson intervals that take the entries as independent.
  If every claim is at least ½, as those of `pair_confidence` are, the x axis begins at ½.

  Args:
    path: of the PNG; an existing one is replaced.
    claims: title of a diagram to probabilities, float [N] in [0, 1], and outcomes, bool or float [N] in [0, 1]. A kind
      without claims gets an empty diagram.
    bins: number of bins of equal width between 0 and 1.

  Raises:
    InputError: if `reliability` refuses the probabilities, outcomes or bins.
  """
  with picture(path, width=4.6 * len(claims), height=5.4) as figure:
    panels = figure.subplots(2, len(claims), sharex="col", height_ratios=(3.4, 1), squeeze=False)
    for (title, (probabilities, outcomes)), above, below in zip(claims.items(), *panels):
      above.set(ylabel="came true", ylim=(-0.02, 1.02))
      above.set_title(title, loc="left", fontsize=11, fontweight="bold")
      above.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
      below.set(xlabel="claimed probability", ylabel="count", xlim=(-0.01, 1.01))
      below.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
      below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
      below.grid(axis="x", visible=False)
      if len(probabilities):
        _draw(above, below, probabilities, outcomes, bins)
      else:
        above.text(0.5, 0.5, "no claims", transform=above.transAxes, ha="center")
    figure.align_ylabels()


def _draw(above: Axes, below: Axes, probabilities: np.ndarray, outcomes: np.ndarray, bins: int) -> None:
  bin_ = reliability(probabilities, outcomes, bins=bins)
  full = bin_.count > 0
  low, high = wilson_interval(bin_.accuracy[full], bin_.count[full])
  x, y = bin_.confidence[full], bin_.accuracy[full]
  above.plot((0, 1), (0, 1), color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="perfectly calibrated")
  # Rounding may put an interval's end an ulp on the wrong side of the mean; matplotlib wants lengths of at least 0.
  lengths = np.maximum([y - low, high - y], 0)
  above.errorbar(x, y, lengths, color=_SERIES, marker="o", markersize=5, linewidth=1.4, label="observed, 95 % interval")
  error = expected_calibration_error(probabilities, outcomes, bins=bins)
  score = brier_score(probabilities, outcomes)
  summary = f"N = {bin_.count.sum():,}\nECE = {error:.3f}\nBrier = {score:.3f}"
  above.text(0.97, 0.04, summary, transform=above.transAxes, ha="right", va="bottom", linespacing=1.5)
  above.legend(loc="upper left", frameon=False)
  below.bar(bin_.edges[:-1], bin_.count, width=0.94 / bins, align="edge", color=_SERIES, alpha=0.75)
  below.set(xlim=((0.5 if np.min(probabilities) >= 0.5 else 0.0) - 0.01, 1.01))
