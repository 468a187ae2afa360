"""Summarizes evaluations as JSON and as tables: a run's before and after, or one alone."""

import math
import os
import pathlib
from typing import Any

import rich.table

from posttrain_jax.runs.journal import METRICS_FILE, read_metrics
from posttrain_jax.types import InputError

_METRICS = ("avg@8", "greedy", "maj@8", "pass@8")
_KEYS = {"avg@8": "avg_at_8", "greedy": "greedy", "maj@8": "maj_at_8"}


def summarize(workdir: str | os.PathLike, *, held_out: str = "heldout") -> dict[str, Any]:
  """Summarizes a run's journal.

  Args:
    workdir: the workdir of a run of `pipelines.grpo` that evaluated with 8 samples.
    held_out: name of the evaluation set.

  Returns:
    A JSON object with avg_at_8_before and avg_at_8_after first, then the same for greedy_ and maj_at_8_, then
    warmup_avg_at_8: one value for each evaluation of the warm-up, empty if there was none. "before" is step 0, before
    the first update; "after" is the last step that was evaluated. A value that was not measured is None.

  Raises:
    InputError: if there is no journal, or no evaluation in it at step 0.
  """
  before, after = _first_and_last(workdir, held_out)
  prefix = f"eval/{held_out}/"
  result = {}
  for metric, key in _KEYS.items():
    result |= {f"{key}_before": before.get(prefix + metric), f"{key}_after": after.get(prefix + metric)}
  warmup = pathlib.Path(workdir) / "warmup"
  records = read_metrics(warmup) if (warmup / METRICS_FILE).exists() else []
  result["warmup_avg_at_8"] = [record[f"{prefix}avg@8"] for record in records if f"{prefix}avg@8" in record]
  return result


def table(workdir: str | os.PathLike, *, held_out: str = "heldout") -> rich.table.Table:
  """Returns the values of `summarize` as a table, with 95 % intervals and pass@8.

  Raises:
    InputError: as `summarize` does.
  """
  before, after = _first_and_last(workdir, held_out)
  problems = before.get(f"eval/{held_out}/problems")
  plateau = summarize(workdir, held_out=held_out)["warmup_avg_at_8"]
  result = rich.table.Table(title=f"{held_out}: {problems} problems, mean and 95 % interval", title_justify="left")
  if plateau:
    result.caption = "avg@8 over the warm-up: " + " ".join(_number(value) for value in plateau)
    result.caption_justify = "left"
  result.add_column("")
  result.add_column(f"before (step {before['step']})")
  result.add_column(f"after (step {after['step']})")
  for metric in _METRICS:
    name = f"eval/{held_out}/{metric}"
    if name in before or name in after:
      result.add_row(metric, _interval(before, name), _interval(after, name))
  return result


def metrics_table(metrics: dict[str, Any]) -> rich.table.Table:
  """Returns the metrics of one evaluation as a table, with 95 % intervals if measured.

  Args:
    metrics: the result of `evaluation.answers.evaluate`.
  """
  result = rich.table.Table(show_header=False)
  for name, value in metrics.items():
    if f"{name}_low" in metrics:
      result.add_row(name, _interval(metrics, name))
    elif not name.endswith(("_low", "_high")):
      result.add_row(name, _number(value) if isinstance(value, float) else str(value))
  return result


def _interval(metrics: dict[str, Any], name: str) -> str:
  """Formats a metric with its interval, such as "0.512 [0.480, 0.541]", escaped for rich."""
  low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
  return f"{_number(metrics.get(name))} \\[{_number(low)}, {_number(high)}]"


def _number(value: float | None) -> str:
  return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def _first_and_last(workdir: str | os.PathLike, held_out: str) -> tuple[dict[str, Any], dict[str, Any]]:
  name = f"eval/{held_out}/avg@8"
  evaluated = [record for record in read_metrics(workdir) if name in record]
  if not evaluated or evaluated[0]["step"] != 0:
    raise InputError(f"{pathlib.Path(workdir) / METRICS_FILE}: found no {name} at step 0, expected one")
  return evaluated[0], evaluated[-1]
