import dataclasses

from posttrain_jax.recipes import measures
from posttrain_jax.recipes.measures import Measured
from posttrain_jax.recipes.recipe import Output
from tests.recipes.made_recipe import WRITE, stage

MODEL = dataclasses.replace(WRITE, has_model=True)


def measured(name, value):
  return {name: value, f"{name}_low": value - 0.1, f"{name}_high": value + 0.1}


def test_a_measure_stands_with_its_model():
  stages = [
    stage("sft", run=MODEL),
    dataclasses.replace(stage("of_sft"), inputs={"model.path": Output("sft")}),
    dataclasses.replace(stage("of_base"), inputs={"model.path": "elsewhere"}),
  ]
  metrics = {
    "sft": measured("eval/heldout/avg@8", 0.9),  # other sets may be evaluated in training
    "of_sft": measured("eval/heldout/avg@8", 0.5) | {"eval/heldout/length": 3.0},
    "of_base": measured("eval/heldout/avg@8", 0.2),
  }
  found = measures.measures(stages, metrics)
  assert found == {"base": {"heldout/avg@8": Measured(0.2, 0.1, 0.30000000000000004)}} | {
    "sft": {"heldout/avg@8": Measured(0.5, 0.4, 0.6)}
  }
  assert list(found) == ["base", "sft"]
  assert measures.measure_table(found) == (
    ["measure", "base", "sft"],
    [["heldout/avg@8", "0.200 [0.100, 0.300]", "0.500 [0.400, 0.600]"]],
  )


def test_a_second_measurement_of_the_same_stands_under_its_own_name():
  stages = [dataclasses.replace(stage(name), inputs={"model.path": name}) for name in ("one", "other", "more")]
  metrics = {"one": measured("seen/facts", 0.2), "other": measured("seen/facts", 0.7), "more": measured("kl", 1.0)}
  found = measures.measures(stages, metrics)
  assert {name: list(each) for name, each in found.items()} == {"base": ["seen/facts", "kl"], "other": ["seen/facts"]}
  assert found["base"]["seen/facts"].value == 0.2 and found["other"]["seen/facts"].value == 0.7


def test_without_a_stage_that_measures_the_evaluations_of_training_count():
  found = measures.measures([stage("sft", run=MODEL), stage("data")], {"sft": measured("eval/heldout/avg@8", 0.9)})
  assert list(found) == ["sft"]


def test_of_each_set_only_the_largest_k_is_shown():
  names = ["a/avg@8", "a/pass@1", "a/pass@8", "a/pass@4", "b/pass@2"]
  found = {"one": {name: Measured(0, 0, 0) for name in names[:3]}, "two": {name: Measured(0, 0, 0) for name in names}}
  assert measures.names(found) == ["a/avg@8", "a/pass@8", "b/pass@2"]
  assert measures.measure_table(found)[1][-1] == ["b/pass@2", "–", "0.000 [0.000, 0.000]"]


def test_the_sets_of_a_measure_share_a_panel():
  assert measures._panels(["seen/facts", "held_out/facts", "seen/length", "kl"]) == {
    "facts": {"seen/facts": "seen", "held_out/facts": "held_out"},
    "seen/length": {"seen/length": "seen"},
    "kl": {"kl": ""},
  }


def test_the_picture(tmp_path):
  assert not measures.draw(tmp_path / "none.png", {}) and not (tmp_path / "none.png").exists()
  found = {
    name: {"x/a": Measured(0.5, 0.4, 0.6), "y/a": Measured(0.5, 0.4, 0.6), "b": Measured(1.0, 0.9, 1.1)}
    for name in ("one", "two")
  }
  assert measures.draw(tmp_path / "some.png", {**found, "three": {"x/a": Measured(0.2, 0.1, 0.3)}})
  assert (tmp_path / "some.png").read_bytes().startswith(b"\x89PNG")
