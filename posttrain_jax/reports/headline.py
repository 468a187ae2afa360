"""Builds the report's first tables: each held-out set before and after training."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from posttrain_jax.reports.panel import Columns, evaluation_sets, measured
from posttrain_jax.reports.preference_panels import strengths


@dataclasses.dataclass(frozen=True)
class HeadlineRow:
  """Holds one held-out metric before and after training.

  Attributes:
    label: the metric's name in the table.
    before: (value, low, high) of the first evaluation; low and high are NaN without a 95 % interval.
    after: the same of the last evaluation; None when there is only one evaluation.
    digits: decimals to show.
  """

  label: str
  before: tuple[float, float, float]
  after: tuple[float, float, float] | None
  digits: int

  @property
  def change(self) -> float | None:
    """Returns the value after minus the value before; None when there is only one evaluation."""
    return None if self.after is None else self.after[0] - self.before[0]


@dataclasses.dataclass(frozen=True)
class Headline:
  """Holds the table of one evaluation set.

  Attributes:
    name: of the set.
    over: what the intervals resample; empty if there are no intervals.
    steps: the first and the last evaluated step; equal when there is only one evaluation.
    best: (step, value) of the first row's best value; the latest step if several are equal.
    best_is: "Highest" or "Lowest".
    rows: the metric that the run is judged by comes first.
  """

  name: str
  over: str
  steps: tuple[int, int]
  best: tuple[int, float]
  best_is: str
  rows: list[HeadlineRow]


# (key, label, digits) of the rows.
_COMPARISONS = (
  ("accuracy", "accuracy", 3),
  ("margin_mean", "margin", 3),
  ("log_loss", "log loss", 3),
  ("ece", "calibration error", 3),
  ("brier", "Brier score", 3),
  ("length_spearman", "rank correlation with length", 3),
  ("winner_longer", "the longer answer wins", 3),
)
_PREFERENCES = (
  ("reward/accuracy", "implicit accuracy", 3),
  ("reward/margin", "implicit margin", 3),
  ("logprob/chosen_moved", "change of log likelihood: chosen", 2),
  ("logprob/rejected_moved", "change of log likelihood: rejected", 2),
)
_VALIDATION = (("loss", "loss, nats per token", 3), ("perplexity", "perplexity", 3))


def headlines(columns: Columns) -> list[Headline]:
  """Returns one table per evaluation set.

  Sets with sampled answers come first, in order of appearance. Held-out comparisons, preferences and demonstrations
  follow.
  """
  result = []
  for name, k in evaluation_sets(columns).items():
    metrics = [(key, key, 3) for key in (f"avg@{k}", "greedy", f"maj@{k}", f"pass@{k}")] if k else []
    metrics += [("reward", "reward model's score", 3)]
    metrics += [("length", "answer length, tokens", 1), ("truncated", "truncated", 3)]
    metrics += [("kl_to_reference", "KL to the reference, nats", 3), ("kl_to_start", "KL to the start, nats", 3)]
    result.append(_headline(columns, f"eval/{name}/", name, "problems", metrics))
  if measured(columns, "eval/heldout/accuracy"):
    levels = [
      (key.removeprefix("eval/heldout/"), f"accuracy, {name} better".replace("better better", "better"), 3)
      for key, name in strengths(columns).items()
    ]
    rows = [_COMPARISONS[0], *levels, *_COMPARISONS[1:]]
    result.append(_headline(columns, "eval/heldout/", "held-out comparisons", "prompts", rows))
  if measured(columns, "eval/preferences/reward/accuracy"):
    over = "answers" if measured(columns, "eval/preferences/answers") else "pairs"
    result.append(_headline(columns, "eval/preferences/", "held-out preferences", over, _PREFERENCES))
  if measured(columns, "eval/validation/loss"):
    found = _headline(columns, "eval/validation/", "held-out demonstrations", "", _VALIDATION, lowest=True)
    result.append(found)
  return result


def _headline(
  columns: Columns,
  prefix: str,
  name: str,
  over: str,
  metrics: Sequence[tuple[str, str, int]],
  *,
  lowest: bool = False,
) -> Headline:
  top = columns[prefix + metrics[0][0]]
  rounds = np.flatnonzero(np.isfinite(top))
  first, last = rounds[0], rounds[-1]
  latest_first = rounds[::-1]  # of equal values, the latest counts as the best
  best = latest_first[np.argmin(top[latest_first]) if lowest else np.argmax(top[latest_first])]

  def at(key: str, row: int) -> tuple[float, float, float]:
    ends = (columns.get(f"{prefix}{key}{end}") for end in ("", "_low", "_high"))
    return tuple(float(column[row]) if column is not None else math.nan for column in ends)

  rows = [
    HeadlineRow(label, at(key, first), at(key, last) if last != first else None, digits)
    for key, label, digits in metrics
    if prefix + key in columns
  ]
  steps = columns["step"].astype(int)
  best_is = "Lowest" if lowest else "Highest"
  return Headline(name, over, (steps[first], steps[last]), (steps[best], float(top[best])), best_is, rows)
