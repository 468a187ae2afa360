"""Tests the kinds of stages on a small recipe of real pipelines, in one process."""

import dataclasses
import json

import pytest

from configs import assistant_base, tiny_collect, tiny_dpo, tiny_edited, tiny_online_dpo, tiny_sft
from posttrain_jax.recipes import average, runners
from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.recipe import Stage
from posttrain_jax.types import InputError
from tests.pipelines.small_offline import small
from tests.recipes.made_recipe import run


def stages():
  config = small(tiny_sft, steps=2, checkpoint__every=1, eval__every=0)
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
  file = max((path / "sft" / "checkpoints" / "2").rglob("*"), key=lambda file: file.is_file() and file.stat().st_size)
  content = file.read_bytes()
  file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
  with pytest.raises(InputError, match=r"sft: is not what stage sft wrote|stage sft: .* is damaged"):
    run(more, path)
  assert not (path / "another").exists()
  file.write_bytes(content)


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
