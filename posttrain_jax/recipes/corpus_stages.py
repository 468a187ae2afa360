"""Prepares raw text and pretrains on it, as stages of a recipe."""

import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from posttrain_jax.data.documents import SHARDS as SHARDS
from posttrain_jax.pipelines import prepare, pretrain
from posttrain_jax.pipelines.prepare_settings import PrepareSettings
from posttrain_jax.recipes import forecasts
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError

REPORT = "report.md"


def preparation(config: ConfigDict) -> ConfigDict:
  """Returns the config of a stage that prepares raw text.

  Its inputs are `path`, the raw text, and `exam`, rows of an evaluation set that are to be absent from it.

  Args:
    config: that of `experiments.prepare`, without these paths.
  """
  return ConfigDict(dict(path="", exam="", seed=config.seed, prepare=config))


def check_preparation(config: ConfigDict) -> None:
  """Checks the config of a preparation.

  Raises:
    InputError: if a field is unknown, missing or of another type.
  """
  parse(PrepareSettings, _preparation(config))


def run_preparation(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, Any]:
  """Prepares raw text, or goes on with it.

  Returns:
    Counts: documents in, also as "examples", of each step that dropped some, and out.
  """
  found = prepare.prepare(_preparation(config), str(folder))
  counts = {name: value for name, value in found.items() if isinstance(value, int | float)}
  return {"examples": counts["documents"], **counts}


def forecast_preparation(config: ConfigDict, known: Forecast) -> Effort:
  """Counts the documents that are read."""
  return Effort(examples=known.count(config.path))


def check_pretraining(config: ConfigDict) -> None:
  """Checks the config of pretraining.

  Raises:
    InputError: if a field is unknown, missing, of another type or out of range, or if there are no steps.
  """
  pretrain.checked(config)
  if not config.steps:
    raise InputError("steps: 0, expected the updates: how many an epoch takes is not known before the text is prepared")


def run_pretraining(config: ConfigDict, folder: pathlib.Path) -> Mapping[str, Any] | None:
  """Pretrains on the shards whose list is `corpus.path`, or goes on with it."""
  pretrain.pretrain(_of_folder(config), str(folder))
  return None


def forecast_pretraining(config: ConfigDict, known: Forecast) -> Effort:
  """Estimates the steps of pretraining, whose text may not be prepared yet."""
  return forecasts.rows_of_text(config, known, config.steps)


def _preparation(config: ConfigDict) -> ConfigDict:
  own = config.prepare.copy_and_resolve_references().unlock()
  own.seed, own.input.paths = config.seed, (config.path,)
  own.contamination.paths = (config.exam,) if config.exam else ()
  return own


def _of_folder(config: ConfigDict) -> ConfigDict:
  """Names the folder of a list of shards."""
  own = config.copy_and_resolve_references().unlock()
  own.corpus.path = str(pathlib.Path(config.corpus.path).parent)
  return own.lock()
