"""Draws the learning curves of pretraining at several widths."""

import dataclasses
import pathlib
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.ticker import FuncFormatter

from posttrain_jax.reports.picture import MUTED, picture
from posttrain_jax.runs.start_line import short_count
from posttrain_jax.types import InputError

_MARKERS = "osD^vP"


@dataclasses.dataclass(frozen=True)
class WidthCurve:
  """Holds the measurements of one run.

  Attributes:
    width: of the residual stream.
    parameters: of the model.
    tokens: learned tokens until each measurement, ascending.
    losses: held-out loss in nats a token, at each measurement.
    seconds: of the run on this machine.
  """

  width: int
  parameters: int
  tokens: tuple[int, ...]
  losses: tuple[float, ...]
  seconds: float


def plot_widths(path: str | pathlib.Path, curves: Sequence[WidthCurve], *, title: str = "Pretraining by width") -> None:
  """Writes two panels as PNG: held-out loss over tokens, and the last loss over parameters.

  Args:
    path: of the PNG; an existing one is replaced.
    curves: one a width.
    title: above the picture.

  Raises:
    InputError: if there are no curves, or one has no measurement.
  """
  if not curves or not all(curve.losses for curve in curves):
    raise InputError("widths: expected curves with measurements, at least one")
  curves = sorted(curves, key=lambda curve: curve.width)
  colors = matplotlib.colormaps["viridis_r"](np.linspace(0.22, 0.92, len(curves)) if len(curves) > 1 else [0.7])
  with picture(path, width=8.2, height=3.4) as figure:
    over_tokens, over_size = figure.subplots(1, 2)
    over_size.plot([c.parameters for c in curves], [c.losses[-1] for c in curves], color=MUTED, linewidth=1)
    for number, (curve, color) in enumerate(zip(curves, colors)):
      style = dict(color=color, marker=_MARKERS[number % len(_MARKERS)], markersize=4.5, linewidth=1.6)
      over_tokens.plot(curve.tokens, curve.losses, label=f"width {curve.width}", **style)
      over_size.plot([curve.parameters], [curve.losses[-1]], **style)
    over_tokens.set_title("While training", loc="left", fontsize=10)
    over_tokens.set_xlabel("tokens")
    over_tokens.xaxis.set_major_formatter(FuncFormatter(lambda count, _: short_count(int(count))))
    over_tokens.set_ylabel("held-out loss, nats a token")
    over_tokens.legend(frameon=False)
    over_size.set_title("At the end", loc="left", fontsize=10)
    over_size.set_xlabel("parameters, log scale")
    over_size.set_xscale("log")
    figure.suptitle(title, x=0.008, ha="left", fontsize=11, fontweight="bold")
