"""Chooses the best of several models by a measure, such as a round's best so far."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from posttrain_jax.recipes import average
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.runs.journal import read_metrics
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuredModel:
  """Describes one of the models that are compared.

  Attributes:
    path: PATH_OR_NAME.
    measures: the metrics.jsonl of a stage that measured it.
  """

  path: str
  measures: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceOfModel:
  """Holds the config of a choice.

  Attributes:
    metric: the highest value is chosen; after a minus, as in -eval/validation/loss, the lowest.
    models: the models by name; of equal ones the first is chosen.
  """

  metric: str
  models: Mapping[str, MeasuredModel]


def models(metric: str, *names: str) -> ConfigDict:
  """Returns the config of a choice, whose inputs are `models.NAME.path` and `models.NAME.measures`."""
  return ConfigDict(dict(metric=metric, models={name: dict(path="", measures="") for name in names}))


check = check_of(ChoiceOfModel, {"models": "some to choose from"})


def choose(config: ConfigDict, folder: pathlib.Path) -> dict[str, Any]:
  """Writes the best model as a workdir that can be loaded by its path.

  Args:
    config: a record `ChoiceOfModel`.
    folder: DIR; gets config.json and checkpoints/0.

  Returns:
    "chosen", the name of the best model; "NAME", each model's value; "params_sha256".

  Raises:
    InputError: if a model has no such metric, or cannot be loaded.
  """
  settings = parse(ChoiceOfModel, config)
  name = settings.metric.removeprefix("-")
  sign = -1.0 if settings.metric.startswith("-") else 1.0
  values = {model: _last(each.measures, name) for model, each in settings.models.items()}
  chosen = max(values, key=lambda model: sign * values[model])
  alone = average.models(chosen)
  alone.models[chosen].path = settings.models[chosen].path
  made = average.average(alone, folder)
  return {"chosen": chosen, **values, "params_sha256": made["params_sha256"]}


def _last(path: str, name: str) -> float:
  """Returns the last value of a metric in a metrics.jsonl."""
  records = read_metrics(path)
  found = [record[name] for record in records if isinstance(record.get(name), int | float)]
  if not found:
    raise InputError(f"{path}: found no number {name}, expected the measures of a stage that has it")
  return float(found[-1])
