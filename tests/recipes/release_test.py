"""Tests the decision about a release, and the model card."""

import json

import pytest
from ml_collections import ConfigDict

from posttrain_jax.recipes import release
from posttrain_jax.recipes.gate import GateClosed
from posttrain_jax.recipes.recipe import Stage
from posttrain_jax.recipes.runners import RELEASE, function
from posttrain_jax.types import InputError
from tests.recipes.made_recipe import FILE, run, stage


def measurement(config, folder):
  row = {"step": 0, "answers": 0.8, "answers_low": 0.7, "answers_high": 0.9, "no_interval": 3}
  (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")


def attacked(config, folder):
  (folder / "attacks.json").write_text(
    json.dumps({"of": "attacks", "measures": {"direct_complied": [0.2, 0.15, 0.25]}})
  )
  line = {"attack": "direct", "text": "how | ?", "completion": "so\nand so", "complies": True, "refuses": False}
  (folder / "attacks.jsonl").write_text(json.dumps(line) + "\n")


def stages(at_least=None, at_most=None):
  model = stage("model")
  measured = Stage("measured", run=function(measurement, "metrics.jsonl"), config=ConfigDict())
  attacks = Stage("attacks", run=function(attacked, "attacks.json", "attacks.jsonl"), config=ConfigDict())
  config = release.release(
    "usual", "attacks", title="A model", use="For tests.", at_least=at_least or {}, at_most=at_most or {}
  )
  inputs = {
    "measurements.usual.metrics": measured.file("metrics.jsonl"),
    "measurements.attacks.metrics": attacks.file("attacks.json"),
    "measurements.attacks.answers": attacks.file("attacks.jsonl"),
    "model.path": model.file(FILE),
  }
  return [model, measured, attacks, Stage("release", run=RELEASE, config=config, inputs=inputs)]


@pytest.fixture(autouse=True)
def model_of_rows(monkeypatch):
  """Lets a file stand for the model, whose stage is its folder."""
  found = release.lineage.lineage
  monkeypatch.setattr(release.lineage, "lineage", lambda directory, stage: found(directory, "model"))


def test_a_model_within_its_bounds_is_released(tmp_path):
  result = run(stages({"answers": 0.5}, {"attacks/direct_complied": 0.3}), tmp_path)
  assert result["stages"][-1]["metrics"] == {"bounds": 2, "broken": 0}
  card = (tmp_path / "release" / release.CARD).read_text()
  assert card.startswith("# A model\n\nFor tests.\n\n**Released** by the bounds below.")
  for line in (
    "| `answers` | at least 0.5 | 0.800 [0.700, 0.900] | kept |",
    "| `attacks/direct_complied` | at most 0.3 | 0.200 [0.150, 0.250] | kept |",
    "| `answers` | 0.800 [0.700, 0.900] |",
    r"| gives in to an attack: direct | how \| ? | so and so |",
  ):
    assert line in card.splitlines()
  assert "| model | write |" in card and "no_interval" not in card
  assert json.loads((tmp_path / "release" / release.VERDICT).read_text())["released"]


def test_a_model_that_breaks_a_bound_is_not_released_and_its_card_says_so(tmp_path):
  broken = stages({"answers": 0.85}, {"attacks/direct_complied": 0.1})
  message = r"A model is not released: answers is 0.800, at least 0.85; attacks/direct_complied is 0.200, at most 0.1;"
  with pytest.raises(GateClosed, match=message):
    run(broken, tmp_path)
  card = (tmp_path / "release" / release.CARD).read_text().splitlines()
  assert "**Not released** by the bounds below." in card
  assert "| `answers` | at least 0.85 | 0.800 [0.700, 0.900] | broken, within the interval |" in card
  assert "| `attacks/direct_complied` | at most 0.1 | 0.200 [0.150, 0.250] | broken, beyond the interval |" in card
  result = run(broken, tmp_path, accepted=["release"])
  assert result["stages"][-1]["metrics"] == {"bounds": 2, "broken": 2, "accepted": 1}


def test_probes_and_judges_are_bounded_by_their_own_names(tmp_path):
  (tmp_path / "probes.json").write_text(json.dumps({"of": "probes", "measures": {"harm_largest": [0.1, 0.0, 0.2]}}))
  assert release._of_stage(str(tmp_path / "probes.json")) == {"probes/harm_largest": (0.1, 0.0, 0.2)}
  (tmp_path / "probes.json").write_text(json.dumps({"measures": {}}))
  with pytest.raises(InputError, match=r"probes.json: cannot be read \('of'\), expected what a measurement wrote"):
    release._of_stage(str(tmp_path / "probes.json"))


def test_what_is_refused(tmp_path):
  with pytest.raises(InputError, match=r"bounds.at_least.facts: not measured, expected one of: answers, attacks/"):
    run(stages({"facts": 0.5}), tmp_path)
  with pytest.raises(InputError, match=r"bounds: found none"):
    run(stages(), tmp_path / "other")
  with pytest.raises(InputError, match=r"bounds.at_most.answers: nan, expected a number"):
    run(stages({}, {"answers": float("nan")}), tmp_path / "other")
  config = release.release(title="t", use="u", at_least={"a": 1.0}, at_most={})
  with pytest.raises(InputError, match=r"measurements: found none"):
    release.check(config)
