"""What the report says first: evaluation before and after training, the warm-up's plateau, time and tokens."""

import dataclasses
import math
from typing import Any

import numpy as np

from posttrain_jax.evaluation.report_panels import Columns, evaluation_sets


@dataclasses.dataclass(frozen=True)
class HeadlineRow:
  """A held-out metric before and after training: values with their 95 % intervals, None where not measured."""

  label: str
  before: tuple[float, float, float]
  after: tuple[float, float, float] | None
  digits: int

  @property
  def change(self) -> float | None:
    return None if self.after is None else self.after[0] - self.before[0]


@dataclasses.dataclass(frozen=True)
class Headline:
  """One evaluation set's table.

  Attributes:
    name: of the set.
    k: samples per problem.
    steps: the first and the last evaluated step; equal when there is only one evaluation.
    best: (step, avg@k) of the highest avg@k.
    rows: avg@k first.
  """

  name: str
  k: int
  steps: tuple[int, int]
  best: tuple[int, float]
  rows: list[HeadlineRow]


def headlines(columns: Columns) -> list[Headline]:
  """One table per evaluation set, in the order in which they appear."""
  result = []
  for name, k in evaluation_sets(columns).items():
    average = columns[f"eval/{name}/avg@{k}"]
    measured = np.flatnonzero(np.isfinite(average))
    first, last, best = measured[0], measured[-1], measured[np.argmax(average[measured])]

    def at(key: str, row: int, *, prefix: str = f"eval/{name}/") -> tuple[float, float, float]:
      ends = (columns.get(f"{prefix}{key}{end}") for end in ("", "_low", "_high"))
      return tuple(float(column[row]) if column is not None else math.nan for column in ends)

    metrics = [(f"avg@{k}", f"avg@{k}", 3), ("greedy", "greedy", 3), (f"maj@{k}", f"maj@{k}", 3)]
    metrics += [(f"pass@{k}", f"pass@{k}", 3), ("length", "answer length, tokens", 1), ("truncated", "truncated", 3)]
    rows = [
      HeadlineRow(label, at(key, first), at(key, last) if last != first else None, digits)
      for key, label, digits in metrics
      if f"eval/{name}/{key}" in columns
    ]
    steps = columns["step"].astype(int)
    result.append(Headline(name, k, (steps[first], steps[last]), (steps[best], float(average[best])), rows))
  return result


def facts(columns: Columns, warm_up: Columns) -> list[tuple[str, str, str]]:
  """(label, value, remark) of what is said beside the headline."""
  result = []
  for name, k in evaluation_sets(warm_up).items():
    values = warm_up[f"eval/{name}/avg@{k}"]
    measured = np.flatnonzero(np.isfinite(values))
    tail = measured[-max(1, len(measured) // 4) :]
    steps = warm_up["step"][tail].astype(int)
    remark = f"{name} avg@{k}, warm-up step {steps[-1]}"
    if len(tail) > 1:
      rise = values[tail[-1]] - values[tail[0]]
      remark = f"{name} avg@{k}, mean over warm-up steps {steps[0]}–{steps[-1]}, across which it moved {rise:+.3f}"
    result.append(("Warm-up plateau", format_number(float(values[tail].mean())), remark.replace("-0.", "−0.")))
  if columns:
    seconds, warm_seconds = _seconds(columns), _seconds(warm_up)
    if seconds:
      remark = f"and {format_number(warm_seconds, 0)} s of warm-up" if warm_seconds else "all phases"
      result.append(("Training time", f"{format_number(seconds, 0)} s", remark))
    updates = columns.get("updates", np.array([np.nan]))
    remark = f"{format_number(int(np.nanmax(updates)))} optimiser updates" if np.isfinite(updates).any() else ""
    result.append(("Steps", format_number(int(columns["step"][-1])), remark))
    if "sampling/tokens_generated" in columns:
      tokens = int(np.nansum(columns["sampling/tokens_generated"]))
      trained = int(np.nansum(columns.get("sampling/tokens_trained", 0)))
      result.append(
        ("Tokens generated", format_number(tokens), f"{format_number(trained)} trained on" if trained else "")
      )
  return result


def _seconds(columns: Columns) -> float:
  if "time/total" in columns:
    return float(np.nansum(columns["time/total"]))
  return float(sum(np.nansum(values) for key, values in columns.items() if key.startswith("time/")))


def format_number(value: Any, digits: int = 3) -> str:
  """A number for reading: `digits` decimals, exponents where they would hide it, – where there is none."""
  if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
    return "–"
  if isinstance(value, int) or (float(value).is_integer() and abs(value) >= 1000):
    return f"{int(value):,}".replace(",", "\u2009").replace("-", "−")
  value += 0.0  # −0 becomes 0
  text = f"{value:.2e}" if value and abs(value) < 0.5 * 10**-digits else f"{value:.{digits}f}"
  return text.replace("-", "−")
