"""Lists the facts next to the report's headline: data, warm-up plateau, time and tokens."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from posttrain_jax.reports.panel import Columns, evaluation_sets, measured
from posttrain_jax.runs.start_line import describe_counts

NOISE = 1e-6  # what float32 leaves of a quantity that is 0, such as the KL of a policy to itself


def facts(columns: Columns, warm_up: Columns) -> list[tuple[str, str, str]]:
  """Returns (label, value, remark) of each fact, in reading order.

  Args:
    columns: of metrics.jsonl; empty before the first step.
    warm_up: of warmup/metrics.jsonl; empty without a warm-up.
  """
  result = []
  for name, k in evaluation_sets(warm_up).items():
    if not k:
      continue
    values = warm_up[f"eval/{name}/avg@{k}"]
    rounds = np.flatnonzero(np.isfinite(values))
    tail = rounds[-max(1, len(rounds) // 4) :]
    steps = warm_up["step"][tail].astype(int)
    remark = f"{name} avg@{k}, warm-up step {steps[-1]}"
    if len(tail) > 1:
      rise = values[tail[-1]] - values[tail[0]]
      remark = f"{name} avg@{k}, mean over warm-up steps {steps[0]}–{steps[-1]}, across which it moved {rise:+.3f}"
    result.append(("Warm-up plateau", format_number(float(values[tail].mean())), remark.replace("-0.", "−0.")))
  result += [*_data(columns, "Data"), *_data(warm_up, "Warm-up data")]
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


def own_sets(config: Sequence[tuple[str, str]]) -> list[tuple[str, str, str]]:
  """Returns one fact about each evaluation set that is a part of the run's own prompts.

  Args:
    config: (dotted field, value as JSON) of config.json, as `reports.report` reads it.
  """
  fields = dict(config)
  path, share = fields.get("prompts.path", '""').strip('"'), float(fields.get("eval.own_share", "0"))
  if not path or "digests.prompts.held_out" not in fields:
    return []
  names = [re.fullmatch(r"eval\.sets\.([^.]+)\.prompts\.path", name) for name in fields]
  return [
    (f"Evaluation set {name[1]}", path, f"prompts that a hash holds out ({share:.0%}); they are not trained on")
    for name in names
    if name and fields[name[0]].strip('"') == ""
  ]


def _data(columns: Columns, label: str) -> list[tuple[str, str, str]]:
  """Returns the fact about the data, from the first step that has `data/*` keys."""
  said = {
    key: float(v[np.isfinite(v)][0]) for key, v in columns.items() if key.startswith("data/") and measured(columns, key)
  }
  for noun in ("examples", "comparisons"):
    total = said.pop(f"data/{noun}", None)
    if total is not None:
      return [(label, f"{format_number(int(total))} {noun}", ", ".join(describe_counts(said)))]
  return []


def _seconds(columns: Columns) -> float:
  if "time/total" in columns:
    return float(np.nansum(columns["time/total"]))
  return float(sum(np.nansum(values) for key, values in columns.items() if key.startswith("time/")))


def format_number(value: Any, digits: int = 3) -> str:
  """Formats a number for reading, with narrow spaces between thousands.

  Args:
    value: anything; "–" stands for what is not a finite number.
    digits: decimals. A number too small for them is written with an exponent, unless it is below `NOISE`.
  """
  if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
    return "–"
  if isinstance(value, int) or (float(value).is_integer() and abs(value) >= 1000):
    return f"{int(value):,}".replace(",", "\u202f").replace("-", "−")
  value = 0.0 if abs(value) < NOISE else value + 0.0  # −0 becomes 0
  text = f"{value:.2e}" if value and abs(value) < 0.5 * 10**-digits else f"{value:.{digits}f}"
  return text.replace("-", "−")


def format_signed(value: Any, digits: int = 3) -> str:
  """Formats a change: as `format_number`, with a plus in front of what is above 0."""
  text = format_number(value, digits)
  return f"+{text}" if isinstance(value, int | float) and value >= NOISE else text
