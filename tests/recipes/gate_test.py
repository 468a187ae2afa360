"""Tests that a stage which loses more than its bound stops the recipe, and that nothing is lost."""

import json

import pytest
from ml_collections import ConfigDict

from posttrain_jax.recipes import gate
from posttrain_jax.recipes.gate import GateClosed
from posttrain_jax.recipes.recipe import Stage
from posttrain_jax.recipes.runners import GATE, function
from posttrain_jax.types import InputError
from tests.recipes.gains_test import answers
from tests.recipes.made_recipe import calls, chain, run, stage


def measured(folder, name, **measures):
  """Writes a measurement: measure to (value, low, high)."""
  row = {"step": 0}
  for measure, (value, low, high) in measures.items():
    row |= {measure: value, f"{measure}_low": low, f"{measure}_high": high}
  (folder / name).mkdir()
  (folder / name / "metrics.jsonl").write_text(json.dumps(row) + "\n")
  return dict(metrics=str(folder / name / "metrics.jsonl"), answers="")


def gate_of(folder, before, after, **bounds):
  config = gate.gate("sft", dict(may_fall={}, may_rise={}) | bounds)
  config.before.update(measured(folder, "before", **before))
  config.after.update(measured(folder, "after", **after))
  return config


def passed(folder, config):
  gate.check(config)
  (folder / "gate").mkdir()
  return gate.pass_gate(config, folder / "gate")


def test_a_loss_within_its_bound_passes(tmp_path):
  config = gate_of(tmp_path, dict(facts=(0.8, 0.75, 0.85)), dict(facts=(0.7, 0.65, 0.75)), may_fall=dict(facts=0.1))
  found = passed(tmp_path, config)
  half = (0.05**2 + 0.05**2) ** 0.5
  assert found == pytest.approx({"facts": 0.1, "facts/low": 0.1 - half, "facts/high": 0.1 + half})
  (row,) = json.loads((tmp_path / "gate" / gate.GATE).read_text())
  assert row["measure"] == "facts" and row["bound"] == 0.1
  assert "within" in (tmp_path / "gate" / "report.html").read_text()


def test_a_loss_beyond_its_bound_within_the_interval_passes(tmp_path):
  before, after = dict(facts=(0.8, 0.7, 0.9)), dict(facts=(0.6, 0.5, 0.7))
  assert passed(tmp_path, gate_of(tmp_path, before, after, may_fall=dict(facts=0.1)))["facts"] == pytest.approx(0.2)


@pytest.mark.parametrize(
  ("group", "before", "after"), [("may_fall", 0.8, 0.5), ("may_rise", 0.5, 0.8)], ids=["falls", "rises"]
)
def test_a_loss_beyond_its_bound_and_interval_closes_the_gate(tmp_path, group, before, after):
  config = gate_of(
    tmp_path,
    dict(facts=(before, before - 0.01, before + 0.03)),
    dict(facts=(after, after - 0.02, after + 0.01)),
    **{group: dict(facts=0.1)},
  )
  with pytest.raises(
    GateClosed, match=r"^sft loses too much: facts gets worse by 0.300 .* --accept=sft goes on$"
  ) as error:
    passed(tmp_path, config)
  assert f"from {before:.3f} to {after:.3f}; its bound is 0.1;" in str(error.value)
  low, high = error.value.metrics["facts/low"], error.value.metrics["facts/high"]
  # The ends that lie towards each other make the loss smaller.
  least, most = ((0.01, 0.01), (0.03, 0.02)) if group == "may_fall" else ((0.03, 0.02), (0.01, 0.01))
  assert low == pytest.approx(0.3 - sum(x**2 for x in least) ** 0.5)
  assert high == pytest.approx(0.3 + sum(x**2 for x in most) ** 0.5)
  assert "too much" in (tmp_path / "gate" / "report.html").read_text()


@pytest.mark.parametrize("group", ["may_fall", "may_rise"])
def test_a_gain_is_no_loss(tmp_path, group):
  change = 0.3 if group == "may_fall" else -0.3
  config = gate_of(
    tmp_path,
    dict(facts=(0.5, 0.49, 0.51)),
    dict(facts=(0.5 + change, 0.49 + change, 0.51 + change)),
    **{group: dict(facts=0.0)},
  )
  assert passed(tmp_path, config)["facts"] == pytest.approx(-0.3)


def test_models_that_answered_the_same_requests_are_compared_request_by_request(tmp_path):
  wide = {"seen/facts": (0.5, 0.0, 1.0)}  # intervals that would let anything pass
  config = gate_of(tmp_path, wide, {"seen/facts": (0.0, 0.0, 1.0)}, may_fall={"seen/facts": 0.1})
  config.before.answers, config.after.answers = answers(tmp_path, "b", 12), answers(tmp_path, "a", 0)
  with pytest.raises(GateClosed, match=r"seen/facts gets worse by 0.500 \[0.500, 0.500\]"):
    passed(tmp_path, config)


def test_a_measure_that_nobody_measured_is_named(tmp_path):
  config = gate_of(tmp_path, dict(facts=(0.8, 0.7, 0.9)), dict(facts=(0.8, 0.7, 0.9)), may_rise=dict(fact=0.1))
  with pytest.raises(InputError, match=r"bounds.may_rise.fact: .*before/metrics.jsonl has no such.*one of: facts"):
    passed(tmp_path, config)


@pytest.mark.parametrize(
  ("bounds", "message"),
  [
    (dict(may_fall=dict(facts=-0.1), may_rise={}), "bounds.may_fall.facts: -0.1, expected 0 or more"),
    (dict(may_fall=dict(facts=0.1), may_rise=dict(facts=0.1)), "bounds.may_rise.facts: stands in may_fall, too"),
    (dict(may_fall=dict(facts=float("nan")), may_rise={}), "bounds.may_fall.facts: nan, expected 0 or more"),
  ],
)
def test_wrong_bounds_are_refused(bounds, message):
  with pytest.raises(InputError, match=message):
    gate.check(gate.gate("sft", bounds))


def lossy():
  """Returns stages a, its gate that is closed, and b."""

  def measurement(config, folder):
    row = {"step": 0, "facts": config.facts, "facts_low": config.facts, "facts_high": config.facts}
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")

  before, after = (
    Stage(name, run=function(measurement, "metrics.jsonl"), config=ConfigDict(dict(facts=facts)))
    for name, facts in (("before", 0.9), ("after", 0.2))
  )
  first, second = chain("a", "b")
  files = {"before.metrics": before.file("metrics.jsonl"), "after.metrics": after.file("metrics.jsonl")}
  config = gate.gate("a", dict(may_fall=dict(facts=0.5), may_rise={}))
  return [first, before, after, Stage("a_gate", run=GATE, config=config, inputs=files), second]


def test_a_closed_gate_stops_the_recipe_until_it_is_accepted(tmp_path):
  said = []
  for _ in range(2):  # it stays closed
    with pytest.raises(GateClosed, match=r"a loses too much: facts gets worse by 0.700"):
      run(lossy(), tmp_path / "recipe", said)
  assert calls(tmp_path / "recipe") == ["a"]
  result = run(lossy(), tmp_path / "recipe", said, accepted=["a"])
  assert calls(tmp_path / "recipe") == ["b"]  # a was not run again
  assert any(line.startswith("accepted: a loses too much") for line in said)
  metrics = {each["name"]: each["metrics"] for each in result["stages"]}
  assert metrics["a_gate"]["accepted"] == 1 and metrics["a_gate"]["facts"] == pytest.approx(0.7)
  assert run(lossy(), tmp_path / "recipe")["stages"] == result["stages"]  # it stays accepted


def test_only_a_stage_with_a_gate_can_be_accepted(tmp_path):
  with pytest.raises(InputError, match="--accept=b: no stage of this name has a gate, expected one of: a"):
    run(lossy(), tmp_path / "recipe", accepted=["b"])
  with pytest.raises(InputError, match="expected none, as the recipe has no gates"):
    run([stage("a")], tmp_path / "other", accepted=["a"])
  assert not (tmp_path / "recipe").exists()
