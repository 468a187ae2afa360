"""Draws a forgetting study: what fine-tuning gains and loses, by epoch and learning rate."""

import dataclasses
import pathlib
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from posttrain_jax.reports.picture import MUTED, picture
from posttrain_jax.types import InputError

_MARKERS = "osD^vP"


@dataclasses.dataclass(frozen=True)
class ForgettingCurve:
  """Holds the measurements of one run; epoch 0 is the model that it started from.

  Attributes:
    learning_rate: of the run.
    epochs: int [N], ascending from 0.
    accuracy: float [N, 3], share of right answers on the held-out task, then its interval's lower and upper end.
    perplexity: float [N], on plain text.
    distinct_2: float [N, 3], share of different bigrams in samples, then its interval's lower and upper end.
  """

  learning_rate: float
  epochs: np.ndarray
  accuracy: np.ndarray
  perplexity: np.ndarray
  distinct_2: np.ndarray


def plot_forgetting(path: str | pathlib.Path, curves: Sequence[ForgettingCurve], *, title: str = "Forgetting") -> None:
  """Writes three panels as PNG: accuracy, perplexity and distinct-2 over epochs.

  Each learning rate is a line, with its intervals as a band. The dashed line is the model before fine-tuning.
  Perplexity has a logarithmic axis.

  Args:
    path: of the PNG; an existing one is replaced.
    curves: one a learning rate.
    title: above the picture.

  Raises:
    InputError: if there are no curves, or one does not begin at epoch 0.
  """
  if not curves or any(len(curve.epochs) == 0 or curve.epochs[0] != 0 for curve in curves):
    raise InputError("forgetting: expected curves from epoch 0 on, at least one")
  curves = sorted(curves, key=lambda curve: curve.learning_rate)
  epochs = sorted({int(epoch) for curve in curves for epoch in curve.epochs})
  # Learning rates are ordered, so the palette is too: a larger learning rate is darker.
  colors = matplotlib.colormaps["viridis_r"](np.linspace(0.22, 0.92, len(curves)) if len(curves) > 1 else [0.7])
  with picture(path, width=10.2, height=3.7) as figure:
    panels = figure.subplots(1, 3)
    for axes, name in zip(panels, ("accuracy", "perplexity", "distinct_2")):
      base = getattr(curves[0], name)[0]
      axes.axhline(np.ravel(base)[0], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="before")
      for number, (curve, color) in enumerate(zip(curves, colors)):
        _line(axes, curve.epochs, getattr(curve, name), color, _MARKERS[number % len(_MARKERS)], curve.learning_rate)
      axes.set_xlabel("epochs")
      axes.xaxis.set_major_locator(FixedLocator(epochs))
    accuracy, perplexity, distinct = panels
    _headed(accuracy, "Held-out task", "accuracy")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    accuracy.set_ylim(0, 1.02)
    _headed(perplexity, "Plain text", "perplexity, log scale")
    perplexity.set_yscale("log")
    _log_ticks(perplexity)
    _headed(distinct, "Samples", "distinct-2")
    distinct.set_ylim(0, None)
    handles, labels = accuracy.get_legend_handles_labels()
    figure.legend(
      handles[1:] + handles[:1], labels[1:] + labels[:1], loc="outside lower center", ncols=9, frameon=False
    )
    figure.suptitle(title, x=0.008, ha="left", fontsize=11, fontweight="bold")


def _line(
  axes: Axes, epochs: np.ndarray, values: np.ndarray, color: np.ndarray, marker: str, learning_rate: float
) -> None:
  values = np.asarray(values, np.float64)
  if values.ndim == 2:
    values, low, high = values.T
    axes.fill_between(epochs, low, high, color=color, alpha=0.13, linewidth=0)
  label = f"learning rate {learning_rate:g}"
  axes.plot(epochs, values, label=label, color=color, marker=marker, markersize=4.5, linewidth=1.6)


def _headed(axes: Axes, title: str, label: str) -> None:
  axes.set_title(title, loc="left", fontsize=10)
  axes.set_ylabel(label)


def _log_ticks(axes: Axes) -> None:
  """Sets ticks at plain numbers, more of them if the axis spans fewer decades."""
  low, high = axes.get_ylim()
  decades = np.log10(high / low)
  if decades < 0.3:  # less than a factor of 2: round numbers, as on a linear axis
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
  else:
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if decades < 1 else (1, 2, 5)))
  axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
  axes.yaxis.set_minor_formatter(NullFormatter())
