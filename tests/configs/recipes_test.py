"""Tests the recipes that the package has: each is a list of stages that fit each other."""

import functools
import importlib
import pathlib
import re

import pytest

from posttrain_jax.data.assistant_world.language import vocabulary
from posttrain_jax.data.assistant_world.requests import TEMPLATE
from posttrain_jax.data.vocabularies import word_tokenizer
from posttrain_jax.models.sizes import sizes
from posttrain_jax.recipes import forecast
from posttrain_jax.recipes.load import load_recipe
from posttrain_jax.recipes.paper import with_base
from posttrain_jax.recipes.recipe import Output, check_stages
from posttrain_jax.recipes.run import estimate, estimated, run_recipe
from posttrain_jax.recipes.runners import ASSISTANT_BASE, JOIN
from posttrain_jax.types import InputError
from tests.recipes.saved_model import save_model

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs" / "recipes"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.py") if "def get_stages" in path.read_text("utf-8"))
_V5P_BYTES = 95.74 * 2**30
PAPERS = ("constitutional_ai", "deepseek_v3", "instructgpt", "lima", "llama3", "r1")


def recipe_of(name, arg=""):
  module = importlib.import_module(f"configs.recipes.{name}")
  config = module.get_config(arg)
  config.seed = 7
  return load_recipe(f"{name}.py:{arg}", vars(module), config.lock())


@pytest.mark.parametrize(("name", "arg"), [*((name, "") for name in NAMES), *((name, "paper") for name in PAPERS)])
def test_every_recipe_is_one_and_has_a_price(name, arg):
  recipe = recipe_of(name, arg)
  check_stages(recipe.stages)
  # All seeds of a recipe share the assistant world's base model. New text is not the one that was trained on, and an
  # attacker that is trained anew does not draw what the first one drew.
  own = [
    stage for stage in recipe.stages if stage.run is not ASSISTANT_BASE and not stage.name.startswith(("new", "anew"))
  ]
  assert {stage.config.seed for stage in own if "seed" in stage.config} == {7}
  header, body = estimated(recipe)
  assert bool(recipe.topology) == (arg == "paper") and len(body) == len(recipe.stages) + 1
  assert body[-1][header.index("FLOPs")] != "–" and body[-1][header.index("people h")] != "–"


@pytest.mark.parametrize("name", NAMES)
def test_the_rows_of_every_file_are_estimated_by_the_stage_that_writes_it(name, monkeypatch):
  monkeypatch.setattr(forecast, "_GUESS", 10**12)
  recipe = recipe_of(name)
  efforts = estimate(recipe, pathlib.Path("DIR"))
  for stage in recipe.stages:
    assert {*efforts[stage.name].rows} <= {*stage.run.files}, stage.name
    assert efforts[stage.name].examples < 10**9, stage.name  # no file's rows were guessed


def is_asked(given, stages):
  """Tells whether the rows of a stage's file have their prompts in the template."""
  stage = stages[given.stage]
  if stage.run.name in ("write_demonstrations", "write_prompts"):
    return False
  if stage.run is JOIN:
    files = stage.config.files
    asked = {name: is_asked(stage.inputs[f"files.{name}.path"], stages) for name in files}
    return {asked[name] or each.template == TEMPLATE for name, each in files.items()} == {True}
  return True  # collections, and what is made of them


@pytest.mark.parametrize("name", ["deepseek_v3", "instructgpt", "lima", "llama3", "r1"])
def test_prompts_are_put_into_the_template_once(name):
  stages = {stage.name: stage for stage in recipe_of(name).stages}
  for stage in stages.values():
    for field, given in stage.inputs.items():
      section = field.removesuffix(".path")
      if not isinstance(given, Output) or section not in (
        "demonstrations",
        "preferences",
        "prompts",
        "eval.sets.choosing.prompts",
      ):
        continue
      template = functools.reduce(lambda part, key: part[key], section.split("."), stage.config).template
      assert template == ("{prompt}" if is_asked(given, stages) else TEMPLATE), (stage.name, field)


@pytest.mark.parametrize("name", PAPERS)
def test_a_wrong_author_is_refused_before_anything_runs(name, tmp_path):
  module = importlib.import_module(f"configs.recipes.{name}")
  config = module.get_config()
  config["demonstrations" if "demonstrations" in config else "worked"].author = "poet"
  recipe = load_recipe(f"{name}.py", vars(module), config)
  expected = r"^stage \w+: author: 'poet', expected one of careful, helpful, bare, crowd, solver, reasoner$"
  with pytest.raises(InputError, match=expected):
    run_recipe(recipe, str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", PAPERS)
def test_a_path_that_is_no_base_model_is_refused_before_anything_runs(name, tmp_path):
  (tmp_path / "empty").mkdir()
  save_model(tmp_path / "scorer", 0, tokenizer=word_tokenizer(vocabulary()), scalar_head=True)
  save_model(tmp_path / "sums", 0)
  module = importlib.import_module(f"configs.recipes.{name}")
  for path, message in (
    ("no_such", "does not exist"),
    ("empty", "empty"),
    ("scorer", "scorer is a reward model, expected a language model"),
    ("sums", "sums has no tokens for the words of the assistant world"),
  ):
    config = module.get_config()
    config.base = str(tmp_path / path)
    with pytest.raises(InputError, match=rf"^stage \w+: model.path: .*{message}") as error:
      run_recipe(load_recipe(f"{name}.py", vars(module), config), str(tmp_path / "run"))
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  ("name", "field", "value", "message"),
  [
    ("llama3", "sft.steps", 0, r"stage sft_chosen_1: steps: 0, and epochs: 0; expected one of them above 0"),
    ("llama3", "sft.steps", 20, r"stage sft_chosen_1: optimizer.warmup_updates: 20, expected less than the run's 20"),
    ("instructgpt", "epochs.eval.best", "chosing/reward", r"stage epochs: eval.best: 'chosing/reward', expected"),
    ("instructgpt", "shots", ("fact", "writing", "poem"), r"shots: poem; expected kinds of which demonstrations.kinds"),
  ],
)
def test_a_course_that_cannot_be_run_is_refused_before_anything_runs(name, field, value, message, tmp_path):
  module = importlib.import_module(f"configs.recipes.{name}")
  config = module.get_config()
  config.update_from_flattened_dict({field: value})
  with pytest.raises(InputError, match=f"^{message}"):
    run_recipe(load_recipe(f"{name}.py", vars(module), config), str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


def test_llama3_needs_a_round():
  module = importlib.import_module("configs.recipes.llama3")
  config = module.get_config()
  config.rounds = 0
  with pytest.raises(InputError, match="rounds: 0, expected at least 1"):
    load_recipe("llama3.py", vars(module), config)


def test_a_round_of_llama3_begins_with_the_best_model_and_ends_with_an_average():
  stages = {stage.name: stage for stage in recipe_of("llama3").stages}
  assert stages["reward_2"].inputs["model.path"] == stages["sft_chosen_2"].inputs["model.path"] == Output("base")
  assert stages["chosen_2"].inputs["model.path"] == stages["by_best_2"].inputs["model.path"] == Output("best_1")
  assert stages["dpo_latest_2"].inputs["model.path"] == Output("sft_2")
  assert set(stages["dpo_2"].needs()) == {"dpo_latest_2", "dpo_joined_2"}
  assert stages["kept_3"].needs() == ["comparisons_1", "comparisons_2", "comparisons_3"]
  assert stages["latest_3"].needs() == ["comparisons_2", "comparisons_3"]
  assert set(stages["comparisons_2"].needs()) == {"by_best_2", "by_latest_2", "by_joined_2"}


def test_dpop_is_an_option_of_llama3():
  module = importlib.import_module("configs.recipes.llama3")
  config = module.get_config()
  config.dpop = 5.0
  objectives = [stage.config.objective for stage in module.get_stages(config) if "objective" in stage.config]
  assert objectives and all(each.loss == "dpop" and each.options.penalty == 5.0 for each in objectives)


def test_the_variants_of_lima_have_equally_many_demonstrations():
  stages = {stage.name: stage.config for stage in recipe_of("lima").stages}
  count = {name.removesuffix("_data"): sum(each.kinds.values()) for name, each in stages.items() if "kinds" in each}
  full = count["curated"]
  assert count["uncurated"] == count["narrow"] == count["new_facts"] == full
  assert (count["half"], count["quarter"], count["eighth"]) == (full // 2, full // 4, full // 8)
  assert len({stages[name].steps for name in count}) == 1


def test_instructgpt_goes_from_the_base_model_to_the_average_of_ppo():
  stages = {stage.name: stage for stage in recipe_of("instructgpt").stages}
  assert stages["reward"].inputs["model.path"] == stages["answers"].inputs["model.path"] == Output("first")
  assert stages["rankings"].inputs["candidates"] == Output("answers", "candidates")
  assert stages["epochs"].inputs["model.path"] == Output("base")
  assert stages["epochs"].inputs["eval.reward_model"] == stages["ppo"].inputs["reward_model"] == Output("reward")
  assert stages["sft"].config.models.one.checkpoint == "best" and stages["sft"].needs() == ["epochs"]
  assert stages["rlhf"].config.models.one.checkpoint == "average" and stages["rlhf"].needs() == ["ppo"]
  ppo = stages["ppo"].config
  assert (ppo.kl.coefficient, ppo.average.decay, ppo.value.path) == (
    0.02,
    0.992,
    "",
  )  # the value model: the reward model
  assert ppo.ptx.coefficient > 0 and stages["ppo"].needs() == ["sft", "reward", "asked", "documents"]
  for name in ("sft_over_base", "rlhf_over_wide_few_shot"):  # wins are those of the model after
    compared, gained = (stages[stage].inputs for stage in ("comparison", "gains"))
    assert compared[f"pairs.{name}.ours"] == gained[f"pairs.{name}.after"]
    assert compared[f"pairs.{name}.theirs"] == gained[f"pairs.{name}.before"]
    assert compared[f"pairs.{name}.ours"].stage == f"{name.split('_')[0]}_measures"
  assert set(stages["comparison"].needs()) == {f"{name}_measures" for name in ("base", "sft", "rlhf", "wide_few_shot")}


def test_deepseek_v3_makes_the_expert_first_and_the_final_model_from_the_base_model():
  stages = {stage.name: stage for stage in recipe_of("deepseek_v3").stages}
  for name in ("reasoner", "expert_sft", "chat", "sft"):
    assert stages[name].inputs["model.path"] == Output("base"), name
  assert stages["reflective"].inputs["model.path"] == Output("reasoner")
  assert stages["expert"].inputs["model.path"] == Output("expert_sft")
  assert stages["expert"].config.rollout.sampling.temperature > 1
  assert set(stages["joined"].needs()) == {"chosen", "accepted"}
  for name in ("judge", "preference", "v3", "scalar", "answers"):
    assert stages[name].inputs["model.path"] == Output("sft"), name
  # The reflective system prompt is the reasoner's alone, and a measurement's.
  system = stages["reflective"].config.distillation.system
  assert stages["prompted_measures"].config.system == system != stages["expert_measures"].config.system
  assert {*system.split()} <= {*vocabulary()}
  # Both runs differ in who judges alone.
  v3, scalar = (stages[name].config.to_dict() for name in ("v3", "scalar"))
  assert v3.pop("judge") and v3 == scalar and v3["scoring"]["unchecked_only"]
  assert stages["v3"].inputs["judge.path"] == Output("judge")
  assert stages["scalar"].inputs["reward_model"] == Output("preference")


def test_a_given_reasoner_is_not_made():
  module = importlib.import_module("configs.recipes.deepseek_v3")
  config = module.get_config()
  config.reasoner = "runs/reasoner"
  stages = {stage.name: stage for stage in module.get_stages(config)}
  assert "reasoner" not in stages
  assert stages["reflective"].inputs["model.path"] == "runs/reasoner"
  assert stages["reasoner_measures"].inputs["model.path"] == "runs/reasoner"


def test_a_policy_that_judges_its_own_answers_has_learned_to_judge():
  module = importlib.import_module("configs.recipes.deepseek_v3")
  config = module.get_config()
  config.self_rewarding = True
  recipe = load_recipe("deepseek_v3.py", vars(module), config.lock())
  check_stages(recipe.stages)
  estimate(recipe, pathlib.Path("DIR"))
  stages = {stage.name: stage for stage in recipe.stages}
  assert set(stages["joined"].needs()) == {"chosen", "accepted", "judged"} and "judge" not in stages
  judge = stages["v3"].config.judge
  assert judge.self_rewarding and not judge.path and judge.votes > 1 and judge.sampling.temperature
  # Judgements are learned in the words in which the policy is asked, and whole.
  columns = stages["judged"].config.columns
  assert columns.prompt == judge.wording.template and columns.completion.endswith(f"{judge.wording.mark}{{score}}")
  assert stages["sft"].config.demonstrations.row_length >= judge.max_prompt_length + judge.max_new_tokens


def test_the_papers_numbers():
  """Compares with LIMA (2305.11206), sections 3 and 5, and with InstructGPT (2203.02155), table 6 and appendix C."""
  recipe = recipe_of("lima", "paper")
  efforts = estimate(recipe, pathlib.Path("DIR"))
  for stage in recipe.stages:
    small = stage.name != "lima"
    assert efforts[stage.name].examples == {"filtered_32000": 32_000, "lima": 1000}.get(
      stage.name, stage.rows["demonstrations.path"]
    )
    assert (stage.config.batch_size, stage.config.dropout.last, stage.config.epochs) == (
      (64, 0.2, 15) if small else (32, 0.3, 15)
    )
  recipe = recipe_of("instructgpt", "paper")
  efforts, stages = estimate(recipe, pathlib.Path("DIR")), {stage.name: stage.config for stage in recipe.stages}
  assert efforts["epochs"].examples == 12_725 and efforts["reward"].examples == round(0.9 * 33_207)
  assert efforts["ppo"].examples == 256_000
  assert (stages["reward"].preferences.form, stages["reward"].preferences.answers) == ("ranking", 9)
  ppo = stages["ppo"]
  assert ppo.rollout.groups // ppo.learner.minibatches == 64 and ppo.ptx.rows == 8 * 64 and ppo.ptx.coefficient == 27.8


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_models_can_be_split_as_their_stages_say(name):
  recipe = recipe_of(name, "paper")
  known = {stage.name: stage for stage in recipe.stages}
  for stage in recipe.stages:
    config = with_base(stage, known)
    if "mesh" not in config:
      continue
    model = sizes(re.sub(r"\W", "_", config.model.path.lower()))
    assert model.num_kv_heads % config.mesh.tensor == 0, stage.name
    if "rollout" in config:  # a chip holds all layers of its share of the matrices, beside the caches
      assert 2 * model.num_params / config.mesh.tensor < 0.6 * _V5P_BYTES, stage.name


def test_given_base_models_are_not_built():
  module = importlib.import_module("configs.recipes.instructgpt")
  config = module.get_config()
  config.update(base="runs/base", wide_base="runs/wide")
  stages = {stage.name: stage for stage in module.get_stages(config)}
  assert "base" not in stages and "wide_base" not in stages
  assert stages["first"].inputs["model.path"] == "runs/base"
  assert stages["wide_few_shot_measures"].inputs["model.path"] == "runs/wide"
