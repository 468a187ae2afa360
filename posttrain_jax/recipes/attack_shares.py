"""Counts the answers to attacks that comply and that refuse, and writes measures down.

Attacks in the assistant world and on chat models share this; probes and judges write their measures likewise.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posttrain_jax import atomic_files
from posttrain_jax.evaluation.metrics import estimate
from posttrain_jax.recipes import report
from posttrain_jax.recipes.measures import Measured

ATTACKS, SUCCESSES = "attacks.jsonl", "attacks.json"


def write(
  folder: pathlib.Path, lines: Sequence[Mapping[str, Any]], suffix: str, found: Mapping[str, Measured]
) -> dict[str, float]:
  """Writes attacks.jsonl, attacks.json and report.html; returns the measures as metrics."""
  atomic_files.write_rows(folder / ATTACKS, lines)
  return write_measures(folder / SUCCESSES, "attacks", found, {"suffix": suffix})


def write_measures(
  path: pathlib.Path, kind: str, found: Mapping[str, Measured], more: Mapping[str, Any]
) -> dict[str, float]:
  """Writes measures that a release may bound (`recipes.release`), and report.html beside them.

  Args:
    path: FILE.json.
    kind: of the measures; it stands before their names.
    found: the measures.
    more: what the file has besides.

  Returns:
    "KIND/NAME", and its interval as "KIND/NAME_low" and "KIND/NAME_high".
  """
  atomic_files.write_text(path, json.dumps({"of": kind, **more, "measures": found}, indent=2) + "\n")
  report.write_report(path.parent, kind, [], {"model": found}, {})
  flat = {}
  for name, (value, low, high) in found.items():
    flat |= {f"{kind}/{name}": value, f"{kind}/{name}_low": low, f"{kind}/{name}_high": high}
  return flat


def shares(told: Sequence[tuple[str, str, bool, bool]], *, seed: int) -> dict[str, Measured]:
  """Computes the shares of answers that comply and that refuse.

  Args:
    told: of each answer the kind of attack, the category (empty for none), whether it complies, whether it refuses.
    seed: of the intervals.

  Returns:
    "KIND_complied" and "KIND_refused", and "KIND/CATEGORY_complied" and so on.
  """
  groups: dict[str, list[tuple[bool, bool]]] = {}
  for kind, category, complies, refuses in told:
    for group in (kind, f"{kind}/{category}") if category else (kind,):
      groups.setdefault(group, []).append((complies, refuses))
  found = {}
  for group, values in groups.items():
    for name, column in zip(("complied", "refused"), np.array(values, float).T):
      found[f"{group}_{name}"] = Measured.of(estimate(column, seed=seed))
  return found
