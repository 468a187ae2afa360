"""Reads a run's metrics.jsonl into columns and notes the lines it leaves out."""

import json
import math
import pathlib
from typing import Any

import numpy as np


def read_records(path: pathlib.Path, notices: list[str]) -> list[dict[str, Any]]:
  """Returns the complete records of a metrics.jsonl, in order.

  Args:
    path: of the file. It may be missing, or cut short because the run was killed.
    notices: one line is added for each part that is missing or cannot be read.
  """
  try:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
  except FileNotFoundError:
    notices.append(f"{path.name} is missing: this run has not finished a step, so there are no curves yet.")
    return []
  records = []
  for number, line in enumerate(lines, 1):
    if not line.strip():
      continue
    try:
      record = json.loads(line)
      if not isinstance(record, dict) or not _is_number(record.get("step")):
        raise ValueError("no step")
      records.append(record)
    except ValueError:
      last = not any(rest.strip() for rest in lines[number:])
      cause = "is cut short, as by a kill" if last else "is no record of a step"
      notices.append(f"{path.name}, line {number} {cause}: it is left out.")
  if not records:
    notices.append(f"{path.name} has no complete step: there are no curves yet.")
  return records


def columns(records: list[dict[str, Any]]) -> dict[str, np.ndarray]:
  """Turns records into columns: key → float64 [steps], NaN where a step has no number.

  A key without any number has no column.
  """
  keys = dict.fromkeys(key for record in records for key, value in record.items() if _is_number(value))
  return {
    key: np.array([record[key] if _is_number(record.get(key)) else np.nan for record in records], np.float64)
    for key in keys
  }


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
