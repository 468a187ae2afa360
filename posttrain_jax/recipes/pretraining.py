"""Pretrains a model, and compares what it cost with what was estimated."""

import dataclasses
import json
import sys
from collections.abc import Mapping
from typing import Any

import ml_collections

from posttrain_jax import atomic_files
from posttrain_jax.local_path import local_path
from posttrain_jax.pipelines import pretrain
from posttrain_jax.recipes import forecasts
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.recipes.prices import ChipPrice
from posttrain_jax.runs.journal import read_metrics
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError

COST, HERE = "cost.json", "here"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainingPrices:
  """Holds the prices in a config of pretraining.

  Attributes:
    chips: kinds of accelerators by name; HERE is the machine that runs it.
  """

  chips: Mapping[str, ChipPrice]

  def __post_init__(self):
    """Raises InputError if the machine that runs it has no price."""
    if HERE not in self.chips:
      raise InputError(f"chips: found {', '.join(self.chips) or 'none'}, expected {HERE} among them")


def priced_pretraining(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Pretrains as `pipelines.pretrain` does.

  Args:
    config: see `configs/pretrain.py`; its `chips` have prices, that of "here" among them.
    workdir: DIR; gets cost.json besides.

  Returns:
    What `pipelines.pretrain` found, and `cost`: estimated before the run, and actual.

  Raises:
    InputError: if config or input is not fit for use.
    Preempted: after SIGTERM and a checkpoint.
  """
  own = config.copy_and_resolve_references().unlock()  # the caller keeps its own
  if "chips" not in own:
    raise InputError("chips: missing, expected prices of kinds of accelerators")
  chips = parse(PretrainingPrices, {"chips": own.chips}).chips
  del own.chips
  pretrain.checked(own)
  estimate = forecasts.pretraining(own, Forecast(1.0))
  estimated = {"tokens": estimate.trained, "flops": estimate.training_flops, **_hours(estimate, chips)}
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
    f"{HERE}_hours": seconds / 3600,
    f"{HERE}_dollars": seconds / 3600 * chips[HERE].dollars_per_hour,
  }
  cost = {"estimated": estimated, "actual": actual}
  atomic_files.write_text(path / COST, json.dumps(cost, indent=2) + "\n")
  return {**found, "cost": cost}


def _hours(effort: Effort, chips: Mapping[str, ChipPrice]) -> dict[str, float]:
  found = {}
  for name, chip in chips.items():
    found[f"{name}_hours"] = chip.hours(effort)
    found[f"{name}_dollars"] = chip.hours(effort) * chip.dollars_per_hour
  return found


def _worded(estimated: dict[str, float]) -> str:
  return ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in estimated.items())
