"""Tests the kinds of stages on a small recipe of real pipelines, in one process."""

import dataclasses
import json

import pytest

from configs import assistant_base, tiny_collect, tiny_dpo, tiny_edited, tiny_online_dpo, tiny_sft
from posttrain_jax.pipelines import assistant_base as pipeline
from posttrain_jax.recipes import average, runners
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.recipe import Stage
from posttrain_jax.types import InputError
from tests.recipes.careful_engine import answered_carefully
from tests.recipes.killed_recipe import bits, broken_off, die, stop
from tests.recipes.made_recipe import run
from tests.recipes.small_recipe import small_recipe

RECIPE = {stage.name: stage for stage in small_recipe("instructgpt", devices=8).stages}


def stages():
  config = RECIPE["base"].config.copy_and_resolve_references().unlock()
  del config.base
  sft = Stage("sft", run=runners.SFT, config=config, labels="demonstration")
  inputs = {"models.one.path": sft.model}
  return [sft, Stage("chosen", run=runners.AVERAGE, config=average.models("one"), inputs=inputs)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  path = tmp_path_factory.mktemp("recipe")
  return path, run(stages(), path)


def test_a_model_passes_from_stage_to_stage(made):
  path, result = made
  first, second = result["stages"]
  assert first["metrics"]["loss"] > 0 and second["metrics"]["models"] == 1
  last = json.loads((path / "sft" / "metrics.jsonl").read_text().splitlines()[-1])
  assert second["metrics"]["params_sha256"] == last["params_sha256"]  # the average of one model is that model
  effort = json.loads((path / "sft.stage.json").read_text())
  assert effort["effort"]["trained"] > 0 and effort["estimate"]["examples"] == effort["effort"]["examples"] > 0
  assert run(stages(), path) == result


def test_a_damaged_model_is_found_before_a_stage_that_loads_it(made):
  path, _ = made
  more = [*stages(), dataclasses.replace(stages()[1], name="another")]
  file = max((path / "sft" / "checkpoints" / "6").rglob("*"), key=lambda file: file.is_file() and file.stat().st_size)
  content = file.read_bytes()
  file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
  with pytest.raises(InputError, match=r"sft: is not what stage sft wrote|stage sft: .* is damaged"):
    run(more, path)
  assert not (path / "another").exists()
  file.write_bytes(content)


def measured_of_params(base, settings, path, seed):
  """Stands in for the measures of a base model: a number of its parameters."""
  digest = json.loads((path / "metrics.jsonl").read_text().splitlines()[-1])["params_sha256"]
  return {"seen/sums_pass@1": 0.5, "held_out/sums_pass@1": int(digest[:8], 16) / 16**8}


def test_a_base_model_and_its_measures_go_on_to_the_same_bits(made, tmp_path, monkeypatch):
  """Shares its programs with the recipe above, whose SFT has the base model's config."""
  monkeypatch.setattr(pipeline, "_measure", measured_of_params)
  monkeypatch.setattr("posttrain_jax.recipes.measures.draw", lambda path, found: False)
  kept = [RECIPE["base"], RECIPE["base_measures"]]
  with answered_carefully():
    broken_off(
      lambda: run(kept, tmp_path),
      (die, "within", "base", 2),
      (stop, "within", "base", 4),
      (stop, "after", "base"),
      (die, "within", "base_measures"),
    )
    found = bits(tmp_path, kept)
    (tmp_path / "base_measures.stage.json").unlink()
    run(kept, tmp_path)
  assert bits(tmp_path, kept) == found  # the measures once more, in one go
  assert found["base/metrics.jsonl"] == bits(made[0], stages())["sft/metrics.jsonl"]
  assert found["base"]["held_out/sums_pass@1"] > 0 and found["base_measures/answers.jsonl"]


@pytest.mark.parametrize(
  ("runner", "module"),
  [
    (runners.ASSISTANT_BASE, assistant_base),
    (runners.SFT, tiny_sft),
    (runners.DPO, tiny_dpo),
    (runners.DPO, tiny_online_dpo),
    (runners.COLLECT, tiny_collect),
    (runners.COLLECT, tiny_edited),
  ],
)
def test_a_config_is_checked_by_its_record(runner, module):
  config = module.get_config()
  runner.check(config)
  config.no_such_field = 1
  with pytest.raises(InputError, match="no_such_field: unknown"):
    runner.check(config)


def test_a_function_is_a_kind_of_stage():
  def rate(config, folder):
    return {"rated": 1}

  made = runners.function(rate, "rows.jsonl", forecast=lambda config, known: Effort(examples=3))
  assert (made.name, made.files, made.has_model, made.resumes) == ("rate", ("rows.jsonl",), False, False)
  assert 'return {"rated": 1}' in made.source and made.forecast(None, None).examples == 3
  assert runners.function(len).source == "len"  # a function without a source
  made.check(None)  # by default every config is right

  def refuse(config):
    raise InputError("text: 'a', expected b")

  with pytest.raises(InputError, match="text: 'a', expected b"):
    runners.function(rate, check=refuse).check(None)
