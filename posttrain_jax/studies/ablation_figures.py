"""Draws an ablation's pictures: one a metric, a line a row, over generated tokens."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import EngFormatter, PercentFormatter

from posttrain_jax.reports.picture import picture
from posttrain_jax.studies.ablation_runs import TOKENS, Run
from posttrain_jax.studies.ablation_statistics import at_costs, interval

_COLORS = ("#5b6670", "#0072b2", "#d55e00", "#009e73", "#b0578d", "#b87d00", "#3b9bd0", "#8c6d1f")
_DASHES = ("-", (0, (6, 1.6)), (0, (2, 1.4)), (0, (6, 1.5, 1.5, 1.5)), (0, (4, 1.2)), "-")
_BINS = 20  # along the x axis, for what is measured at every step


@dataclasses.dataclass(frozen=True)
class AblationPanel:
  """Describes one panel of a picture.

  Attributes:
    key: a key of metrics.jsonl, or (evaluation set, measure) for scores.
    title: what it shows.
    unit: the y axis label.
    share: whether values are shown as percentages.
  """

  key: str | tuple[str, str]
  title: str
  unit: str
  share: bool = False


def panels(heldout: str, average: str) -> dict[str, tuple[AblationPanel, ...]]:
  """Maps the name of each picture to its panels.

  Args:
    heldout: the evaluation set of the primary measure.
    average: its measure, such as "avg@8".
  """
  return {
    "accuracy": (AblationPanel((heldout, average), f"Accuracy on {heldout}", average, share=True),),
    "entropy": (AblationPanel("entropy", "Entropy of the policy", "nats a token"),),
    "length": (AblationPanel("length/mean", "Length of sampled answers", "tokens"),),
    "truncated": (AblationPanel("truncated/share", "Answers that ran into the cap", "share", share=True),),
    "informative_share": (
      AblationPanel("sampling/informative_share", "Informative groups", "share of sampled", share=True),
    ),
    "tokens_generated_per_trained": (
      AblationPanel("sampling/generated_per_trained", "Tokens generated per token trained", "ratio"),
    ),
    "clip_fractions": (
      AblationPanel("clip/high", "Over the upper bound", "share of tokens", share=True),
      AblationPanel("clip/low", "Under the lower bound", "share of tokens", share=True),
    ),
  }


def draw(
  path: str | pathlib.Path,
  shown: Sequence[AblationPanel],
  rows: Mapping[str, Sequence[Run]],
  *,
  tokens: float,
  resamples: int,
) -> bool:
  """Writes one picture as PNG.

  Scores are drawn at as many points as the row's runs have evaluations, with the interval over seeds and problems. A
  metric of every step is averaged over bins of tokens, with the interval over seeds.

  Args:
    path: of the PNG; an existing one is replaced.
    shown: its panels.
    rows: row → its runs at several seeds; rows that do not sample have no line.
    tokens: the budget, where the x axis ends.
    resamples: of the bootstrap.

  Returns:
    True if the picture was written, False if there was nothing to draw.
  """
  lines = {
    name: [_line(panel, runs, tokens, resamples) for panel in shown]
    for name, runs in rows.items()
    if runs and all(run.samples_tokens for run in runs)
  }
  lines = {name: each for name, each in lines.items() if any(line is not None for line in each)}
  if not lines:
    return False
  with picture(path, width=5.6 * len(shown), height=4.0) as figure:
    grid = figure.subplots(1, len(shown), squeeze=False)[0]
    for number, (axes, panel) in enumerate(zip(grid, shown)):
      for order, (name, each) in enumerate(lines.items()):
        if each[number] is None:
          continue
        x, mean, low, high = each[number]
        color, dashes = _COLORS[order % len(_COLORS)], _DASHES[order % len(_DASHES)]
        axes.fill_between(x, low, high, alpha=0.13, linewidth=0, color=color)
        axes.plot(x, mean, label=name, linewidth=1.7, linestyle=dashes, color=color)
      axes.set_title(panel.title, loc="left", fontsize=11, fontweight="bold", pad=8)
      axes.set_ylabel(panel.unit)
      axes.set_xlabel("generated tokens")
      axes.set_xlim(0, tokens)
      axes.xaxis.set_major_formatter(EngFormatter(sep=""))
      if panel.share:
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
      axes.grid(axis="x", visible=False)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, handlelength=3)
  return True


def _line(panel: AblationPanel, runs: Sequence[Run], tokens: float, resamples: int) -> tuple[np.ndarray, ...] | None:
  """Returns (x, mean, low, high), each [K]; None if no run has the metric."""
  if isinstance(panel.key, tuple):
    name, score = panel.key
    runs = [run for run in runs if score in run.scores.get(name, {})]
    if not runs:
      return None
    costs = [run.costs[TOKENS][run.evaluated] for run in runs]
    x = np.linspace(0, min(tokens, *(each[-1] for each in costs)), len(costs[0]))
    values = [at_costs(cost, run.scores[name][score], x) for cost, run in zip(costs, runs)]
  else:
    runs = [run for run in runs if panel.key in run.columns]
    if not runs:
      return None
    x = (np.arange(_BINS) + 0.5) * tokens / _BINS
    values = [_binned(run.costs[TOKENS], run.columns[panel.key], tokens)[:, None] for run in runs]
  stacked = np.stack(values)  # [S, K, N]
  there = [k for k in range(len(x)) if np.isfinite(stacked[:, k]).any()]
  found = [interval(stacked[:, k], resamples=resamples) for k in there]
  return x[there], *(np.array([getattr(each, end) for each in found]) for end in ("mean", "low", "high"))


def _binned(costs: np.ndarray, values: np.ndarray, tokens: float) -> np.ndarray:
  """Averages values over equal bins of tokens: [bins], interpolated in bins without a step."""
  present = np.isfinite(values) & (costs <= tokens)
  bins = np.minimum((costs[present] / tokens * _BINS).astype(int), _BINS - 1)
  count = np.bincount(bins, minlength=_BINS)
  means = np.bincount(bins, values[present], minlength=_BINS) / np.maximum(count, 1)
  full = np.flatnonzero(count)
  if not full.size:
    return np.full(_BINS, np.nan)
  return np.interp(np.arange(_BINS), full, means[full], right=np.nan)
