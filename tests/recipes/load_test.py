import pytest
from ml_collections import ConfigDict

from configs.recipes.costs import costs
from posttrain_jax.recipes.load import load_recipe
from posttrain_jax.types import InputError
from tests.recipes.made_recipe import chain


def config(**fields):
  return ConfigDict({"costs": costs(), "topology": "", **fields})


def test_a_recipe_is_made_from_the_names_of_its_file():
  recipe = load_recipe(
    "configs/recipes/made.py:tiny", {"get_stages": lambda config: chain(config.first, "b")}, config(first="x")
  )
  assert (recipe.name, [stage.name for stage in recipe.stages]) == ("made:tiny", ["x", "b"])
  assert recipe.costs.minutes["comparison"] == 3.0 and recipe.topology == ""


@pytest.mark.parametrize(
  ("names", "fields", "message"),
  [
    ({}, {}, "made.py: found no function get_stages"),
    ({"get_stages": lambda config: ["sft"]}, {}, "made.py: get_stages returned a str, expected stages only"),
    ({"get_stages": lambda config: 1 / 0}, {}, "made.py:1: ZeroDivisionError: division by zero"),
    ({"get_stages": lambda config: []}, {"costs": {}}, "costs.fill: missing"),
  ],
)
def test_a_file_that_is_no_recipe(names, fields, message):
  with pytest.raises(InputError, match=message):
    load_recipe("made.py", names, config(**fields))


def test_fields_that_are_missing():
  with pytest.raises(InputError, match="has no field costs"):
    load_recipe("made.py", {}, ConfigDict({"topology": ""}))
