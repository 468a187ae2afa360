import dataclasses

import pytest
from ml_collections import ConfigDict

from posttrain_jax.recipes import runners
from posttrain_jax.recipes.recipe import Output, Stage, check_stages, seeded
from posttrain_jax.types import InputError
from tests.recipes.made_recipe import FILE, WRITE, chain, stage


def test_inputs_become_paths_in_a_copy_of_the_config(tmp_path):
  first, second = chain("a", "b")
  assert second.resolved(tmp_path).path == str(tmp_path / "a" / FILE) and second.config.path == ""
  outside = dataclasses.replace(first, inputs={"path": "x.jsonl"})
  assert outside.resolved(tmp_path).path == "x.jsonl"
  assert second.needs() == ["a"] and outside.needs() == []


def test_a_seed_is_that_of_a_copy():
  config = ConfigDict(dict(seed=0, model=dict(path=""))).lock()
  assert seeded(config, 3).to_dict() == {"seed": 3, "model": {"path": ""}} and config.seed == 0


def test_rows_of_files_that_are_not_there(tmp_path):
  first, second = chain("a", "b")
  counted = dataclasses.replace(second, rows={"path": 13_000})
  assert counted.expected_rows(tmp_path) == {tmp_path / "a" / FILE: 13_000} and second.expected_rows(tmp_path) == {}
  with pytest.raises(InputError, match="stage a: inputs name 'pth', which is no field"):
    dataclasses.replace(first, rows={"pth": 1}).expected_rows(tmp_path)


def test_a_stage_names_what_it_makes():
  made = Stage("a", run=dataclasses.replace(WRITE, has_model=True), config=stage("a").config)
  assert made.model == Output("a") and made.file(FILE) == Output("a", FILE)
  with pytest.raises(InputError, match=f"stage a: a stage of write writes no 'x', expected one of: {FILE}"):
    made.file("x")
  with pytest.raises(InputError, match="stage b: a stage of write makes no model, expected its files: rows"):
    stage("b").model  # noqa: B018
  with pytest.raises(InputError, match="makes no model, expected another stage"):
    stage("b", run=runners.function(lambda config, folder: None)).model  # noqa: B018


def of(name="b", **inputs):
  return dataclasses.replace(stage(name), inputs=inputs)


@pytest.mark.parametrize(
  ("stages", "message"),
  [
    ([], "recipe: found no stage"),
    ([stage("a b")], "stage 'a b': expected letters, digits"),
    ([stage("replaced")], "stage 'replaced': expected"),
    ([stage("a"), stage("a")], "stage a: two stages have this name"),
    ([stage("a"), of(path=Output("c", FILE))], "stage b: path is of an unknown stage 'c'; before it are: a"),
    ([of(path=Output("b", FILE))], "stage b: path is of an unknown stage 'b'; before it are: none"),
    ([stage("a"), of(path=Output("a", "x"))], "stage a: a stage of write writes no 'x'"),
    ([stage("a"), of(path=Output("a"))], "stage a: a stage of write makes no model"),
    ([stage("a"), of(pth=Output("a", FILE))], "stage b: inputs name 'pth', which is no field of its config"),
    ([stage("a"), of(**{"text.x": Output("a", FILE)})], "stage b: inputs name 'text.x', which is no field"),
    ([of(path="")], "stage b: path is empty, expected a path or a name"),
  ],
)
def test_a_list_of_stages_that_is_no_recipe(stages, message):
  with pytest.raises(InputError, match=message):
    check_stages(stages)


def test_a_config_that_its_kind_refuses():
  def refuse(config):
    raise InputError("text: 'a', expected b")

  with pytest.raises(InputError, match="stage a: text: 'a', expected b"):
    check_stages([stage("a", run=dataclasses.replace(WRITE, check=refuse))])
