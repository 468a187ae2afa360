"""Tests the recipes that the package has: each is a list of stages that fit each other."""

import importlib
import json
import pathlib

import pytest

from posttrain_jax.recipes.load import load_recipe
from posttrain_jax.recipes.recipe import check_stages
from tests.recipes import small_recipe

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs" / "recipes"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.py") if path.stem not in ("__init__", "costs"))


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_one(name):
  module = importlib.import_module(f"configs.recipes.{name}")
  config = module.get_config()
  config.seed = 7
  recipe = load_recipe(f"{name}.py", vars(module), config.lock())
  check_stages(recipe.stages)
  assert {stage.config.seed for stage in recipe.stages if "seed" in stage.config} == {7}


def bits(directory):
  """Returns what the stages made: the digests of all parameters, and the data."""
  found = {}
  for file in sorted(directory.glob("*/metrics.jsonl")):
    records = [json.loads(line) for line in file.read_text().splitlines()]
    found[file.parent.name] = [record["params_sha256"] for record in records if "params_sha256" in record]
  for file in [*directory.glob("*/demonstrations.jsonl"), *directory.glob("*/pairs.jsonl")]:
    found[str(file.relative_to(directory))] = file.read_text()
  for name in ("average_1", "average_1_measures"):
    metrics = json.loads((directory / f"{name}.stage.json").read_text())["metrics"]
    found[name] = {name: value for name, value in metrics.items() if not name.startswith("time/")}
  return found


@pytest.mark.slow  # starts five processes, each of which compiles for a minute
def test_a_recipe_that_is_killed_within_and_between_stages_goes_on_to_the_same_bits(tmp_path):
  small_recipe.run(tmp_path / "unbroken")
  for kill in (("within", "first"), ("after", "answers_1"), ("within", "dpo_1"), ()):
    small_recipe.run(tmp_path / "killed", *kill)
  found = bits(tmp_path / "killed")
  assert found == bits(tmp_path / "unbroken") and found["first"] and found["answers_1/pairs.jsonl"]
  assert (tmp_path / "killed" / "report.html").exists()
