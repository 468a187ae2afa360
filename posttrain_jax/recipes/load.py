"""Makes a recipe from the names that its file defines and the config after flags."""

import dataclasses
import pathlib
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from posttrain_jax.recipes.prices import CostSettings
from posttrain_jax.recipes.recipe import Stage
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class Recipe:
  """Holds a recipe that is ready to run.

  Attributes:
    name: of its file, with the argument.
    stages: in order.
    costs: the price list.
    topology: where its programs are compiled, such as "v5p:4x4x8", in place of a run; empty for a run.
  """

  name: str
  stages: Sequence[Stage]
  costs: CostSettings
  topology: str


def load_recipe(file: str, names: Mapping[str, Any], config: ConfigDict) -> Recipe:
  """Makes a recipe.

  Args:
    file: FILE.py[:arg].
    names: what the file defines; `get_stages(config)` returns the stages.
    config: what its `get_config` returned, after flags. The fields `costs` and `topology` are read here.

  Raises:
    InputError: if the file has no `get_stages`, if that raises, or if a field is missing.
  """
  path, _, argument = file.partition(":")
  name = pathlib.Path(path).stem + (f":{argument}" if argument else "")
  for field in ("costs", "topology"):
    if field not in config:
      raise InputError(f"{path}: its config has no field {field}, expected one, as in configs/recipes/arithmetic.py")
  if not callable(names.get("get_stages")):
    raise InputError(f"{path}: found no function get_stages, expected one that returns a list of stages")
  try:
    stages = names["get_stages"](config)
  except InputError:
    raise
  except Exception as error:  # the file may raise anything
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    raise InputError(f"{path}:{lines[-1] if lines else 1}: {type(error).__name__}: {error}") from error
  for each in stages:
    if not isinstance(each, Stage):
      raise InputError(f"{path}: get_stages returned a {type(each).__name__}, expected stages only")
  return Recipe(name, stages, parse(CostSettings, config.costs, "costs"), config.topology)
