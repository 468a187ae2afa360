"""Reads what a finished stage measured: numbers of its last evaluation, and some of its answers."""

import math
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from posttrain_jax.recipes.recipe import Output, Stage
from posttrain_jax.reports.samples import sampled_steps
from posttrain_jax.runs.journal import METRICS_FILE, read_metrics

# Numbers of a run that are not about the model.
_LEFT_OUT = re.compile(r"(time|memory|restart|data)/|.*/(per_problem|difficulty)/|step$|updates$|params_sha256$")


def metrics_of(folder: pathlib.Path, returned: Mapping[str, Any] | None) -> dict[str, Any]:
  """Returns the metrics of a stage that has ended.

  Args:
    folder: the stage's.
    returned: what its runner returned; None for what metrics.jsonl has: the last value of each metric.
  """
  if returned is not None:
    return {name: _plain(value) for name, value in returned.items()}
  if not (folder / METRICS_FILE).exists():
    return {}
  found: dict[str, Any] = {}
  for record in read_metrics(folder):
    for name, value in record.items():
      if not _LEFT_OUT.match(name) and isinstance(value, int | float) and not isinstance(value, bool):
        found[name] = value
  return found


def measured_model(stage: Stage) -> str:
  """Returns the name of the stage whose model a stage measures.

  A stage that trains measures its own model. A model from outside the recipe is "base".
  """
  if stage.run.has_model:
    return stage.name
  given = stage.inputs.get("model.path")
  return given.stage if isinstance(given, Output) else "base"


def samples(folder: pathlib.Path) -> list[dict[str, Any]]:
  """Returns some of the answers of a stage's last step, ready for a page."""
  steps = sampled_steps(folder / "rollouts", [])
  return steps[-1][1] if steps else []


def _plain(value: Any) -> Any:
  """Returns a number as JSON has it: NaN and infinity become None."""
  value = value.item() if hasattr(value, "item") else value
  return None if isinstance(value, float) and not math.isfinite(value) else value
