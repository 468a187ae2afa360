"""Draws over-optimisation: gold and proxy reward of the best of n over √KL."""

import dataclasses
import pathlib
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from posttrain_jax.reports.picture import INK, MUTED, picture
from posttrain_jax.studies.best_of_n import BestOfNCurve, Fit, kl_bound

_DASHES, _DOTS, _CHAIN = (0, (4, 2)), (0, (1, 2)), (0, (6, 2, 1, 2))


@dataclasses.dataclass(frozen=True)
class ProxyCurves:
  """Holds the best-of-n curves of proxy reward models that were trained on equally many pairs.

  Attributes:
    pairs: number of pairs that they were trained on.
    gold: gold reward of the best answer.
    proxy: the proxy's own score of it, on the gold reward's scale.
    fit: of the gold curve.
  """

  pairs: int
  gold: BestOfNCurve
  proxy: BestOfNCurve
  fit: Fit


@dataclasses.dataclass(frozen=True)
class Study:
  """Holds all curves of a figure.

  Attributes:
    ceiling: gold reward of the best answer if the gold reward itself chooses.
    proxies: in ascending order of their pairs.
  """

  ceiling: BestOfNCurve
  proxies: Sequence[ProxyCurves]


def draw(path: str | pathlib.Path, ns: Sequence[int], study: Study) -> None:
  """Writes the picture as PNG: gold rewards on the left, proxy scores on the right.

  Each proxy has a colour. Gold rewards are solid lines, with the fit dotted and the highest point ringed. Proxy scores
  are dashed, on the gold reward's scale (`best_of_n.on_scale_of`). Bands are the curves' intervals.

  Args:
    path: of the PNG; an existing one is replaced.
    ns: N numbers of samples, the first one 1.
    study: the curves, each over ns.
  """
  d = np.sqrt(kl_bound(np.array(ns)))
  dense = np.linspace(0, d[-1], 200)
  with picture(path, width=8.4, height=4.6) as figure:
    left, right = figure.subplots(1, 2, sharey=True)
    left.plot(d, study.ceiling.mean, color=MUTED, linewidth=1, linestyle=_CHAIN)
    for curves, color in zip(study.proxies, _colors(len(study.proxies))):
      for axes, shown, style in ((left, curves.gold, "-"), (right, curves.proxy, _DASHES)):
        axes.fill_between(d, shown.low, shown.high, color=color, alpha=0.13, linewidth=0)
        axes.plot(d, shown.mean, color=color, marker="o", markersize=3.5, linewidth=1.7, linestyle=style)
      fitted = curves.gold.mean[0] + curves.fit(dense)
      left.plot(dense, fitted, color=color, linewidth=1, linestyle=_DOTS)
      peak = np.argmax(curves.gold.mean)
      left.plot(d[peak], curves.gold.mean[peak], "o", markersize=9, markerfacecolor="none", color=color)
    titles = ("Gold reward of the best of n", "Its score by the proxy, on the gold scale")
    for axes, title in zip((left, right), titles):
      axes.set_title(title, loc="left", fontsize=11, fontweight="bold", pad=8)
      axes.set_xlabel("√KL from the policy (bound, √nats)")
      axes.grid(axis="x", visible=False)
      _mark_n(axes, ns, d)
    left.set_ylabel("reward")
    figure.legend(handles=_legend(study), loc="outside lower center", ncols=8, frameon=False, handlelength=2.2)


def _colors(count: int) -> list[tuple[float, float, float, float]]:
  """Returns one colour a proxy: light for few pairs, dark for many."""
  return [matplotlib.colormaps["plasma_r"](x) for x in np.linspace(0.25, 0.85, count)]


def _mark_n(axes: Axes, ns: Sequence[int], d: np.ndarray) -> None:
  """Adds an axis above with the values of n."""
  above = axes.secondary_xaxis("top")
  above.set_xticks(d, [f"{n:,}" for n in ns], fontsize=7)
  above.tick_params(length=2, pad=1)
  above.set_xlabel("n", labelpad=3)


def _legend(study: Study) -> list[Line2D]:
  colors = _colors(len(study.proxies))
  pairs = [
    Line2D([], [], color=c, linewidth=3, label=f"{each.pairs:,} pairs") for each, c in zip(study.proxies, colors)
  ]
  return [
    *pairs,
    Line2D([], [], color=INK, linewidth=1, linestyle=_DOTS, label="fit d (α − β d)"),
    Line2D([], [], color=INK, linewidth=0, marker="o", markersize=8, markerfacecolor="none", label="highest"),
    Line2D([], [], color=MUTED, linewidth=1, linestyle=_CHAIN, label="best by gold itself"),
  ]
