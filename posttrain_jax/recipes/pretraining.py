"""Pretrains a model, and compares what it cost with what was estimated."""

import json
import sys
from typing import Any

import ml_collections

from posttrain_jax import atomic_files
from posttrain_jax.local_path import local_path
from posttrain_jax.pipelines import pretrain
from posttrain_jax.recipes import forecasts
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.recipes.prices import CostSettings
from posttrain_jax.runs.journal import read_metrics
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError

COST = "cost.json"


def priced_pretraining(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Pretrains as `pipelines.pretrain` does.

  Args:
    config: see `configs/pretrain.py`; its `costs` have a price for each kind of chip, "here" among them.
    workdir: DIR; gets cost.json besides.

  Returns:
    What `pipelines.pretrain` found, and `cost`: estimated before the run, and actual.

  Raises:
    InputError: if config or input is not fit for use.
    Preempted: after SIGTERM and a checkpoint.
  """
  own = config.copy_and_resolve_references().unlock()  # the caller keeps its own
  if "costs" not in own:
    raise InputError("costs: missing, expected CostSettings")
  costs = parse(CostSettings, own.costs, "costs")
  del own.costs
  pretrain.checked(own)
  estimate = forecasts.pretraining(own, Forecast(costs.fill))
  estimated = {"tokens": estimate.trained, "flops": estimate.training_flops, **_hours(estimate, costs)}
  print(f"estimated: {_worded(estimated)}", file=sys.stderr)
  found = pretrain.pretrain(own, workdir)
  path = local_path(workdir, "--workdir")
  folders = [path, path / pretrain.EXTENDED] if pretrain.EXTENDED in found else [path]
  seconds = sum(record.get("time/total", 0.0) for folder in folders for record in read_metrics(folder))
  tokens = sum(found[name]["tokens"] for name in (pretrain.PRETRAINED, pretrain.EXTENDED) if name in found)
  counted = estimate.with_tokens(generated=None, trained=tokens)
  actual = {
    "tokens": tokens,
    "flops": counted.training_flops,
    "here_hours": seconds / 3600,
    "here_dollars": seconds / 3600 * costs.here,
  }
  cost = {"estimated": estimated, "actual": actual}
  atomic_files.write_text(path / COST, json.dumps(cost, indent=2) + "\n")
  return {**found, "cost": cost}


def _hours(effort: Effort, costs: CostSettings) -> dict[str, float]:
  hours = {name: chip.hours(effort) for name, chip in costs.chips.items()}
  return {
    each: value
    for name, chip in costs.chips.items()
    for each, value in (
      (f"{name}_hours", hours[name]),
      (f"{name}_dollars", hours[name] * chip.dollars_per_hour),
    )
  }


def _worded(estimated: dict[str, float]) -> str:
  return ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in estimated.items())
