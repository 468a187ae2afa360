"""Tests that recipes which are killed or asked to stop, within and between stages, go on to the same bits."""

import dataclasses
import os
import signal

import pytest

from posttrain_jax.recipes.recipe import Output
from posttrain_jax.recipes.run import run_recipe
from posttrain_jax.runs.preemption import Preempted
from tests.recipes import killed_recipe
from tests.recipes.killed_recipe import bits, struck
from tests.recipes.small_recipe import small_recipe

KILL, STOP = int(signal.SIGKILL), int(signal.SIGTERM)
# Within stages of every kind that resumes or starts again, and between them.
BREAKS = {
  "arithmetic": [(KILL, "within", "first"), (KILL, "after", "answers_1"), (STOP, "within", "dpo_1")],
  "instructgpt": [
    (KILL, "within", "base"),
    (KILL, "after", "base"),
    (STOP, "within", "wide_base"),
    (KILL, "within", "base_measures"),
    (STOP, "within", "epochs"),
    (KILL, "within", "reward"),
    (KILL, "within", "ppo"),
    (STOP, "after", "ppo"),
    (KILL, "after", "rlhf_measures"),
  ],
  "llama3": [(STOP, "within", "base"), (KILL, "within", "dpo_latest_1"), (STOP, "within", "sft_1_measures")],
}


class Killed(BaseException):
  """Stands in for SIGKILL in this process: nothing catches it."""


def die():
  raise Killed


def stop():
  os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def recipe():
  """Makes a recipe with a base model, PPO from it, and measures: some stages of InstructGPT's."""
  small = small_recipe("instructgpt", devices=8)
  stages = {stage.name: stage for stage in small.stages}
  ppo = stages["ppo"]
  inputs = {name: given for name, given in ppo.inputs.items() if name != "reward_model"}
  stages["ppo"] = dataclasses.replace(ppo, inputs={**inputs, "model.path": Output("base")})  # the rules give the reward
  names = ("base", "asked", "documents", "ppo", "rlhf", "rlhf_measures")
  return dataclasses.replace(small, stages=[stages[name] for name in names])


@pytest.fixture(scope="module")
def unbroken(recipe, tmp_path_factory):
  directory = tmp_path_factory.mktemp("unbroken")
  run_recipe(recipe, str(directory), say=lambda text: None)
  return bits(directory, recipe.stages)


@pytest.mark.parametrize(("strike", "raised"), [(die, Killed), (stop, Preempted)])
def test_a_base_model_ppo_and_measures_go_on_to_the_same_bits(recipe, unbroken, tmp_path, strike, raised):
  for place, stage in (("within", "base"), ("after", "base"), ("within", "ppo"), ("within", "rlhf_measures")):
    with struck(strike, place, stage):
      if strike is stop and stage == "rlhf_measures":  # the last stage, which does not look for signals
        run_recipe(recipe, str(tmp_path), say=lambda text: None)
        break
      with pytest.raises(raised):
        run_recipe(recipe, str(tmp_path), say=lambda text: None)
  run_recipe(recipe, str(tmp_path), say=lambda text: None)
  found = bits(tmp_path, recipe.stages)
  assert found == unbroken
  digests = {record["params_sha256"] for record in found["ppo/metrics.jsonl"] if "params_sha256" in record}
  assert len(digests) > 1 and found["rlhf"]["params_sha256"] not in digests
  assert {"ppo/rollouts/step_000002.jsonl", "rlhf_measures/answers.jsonl", "asked/prompts.jsonl"} <= found.keys()


@pytest.mark.slow  # starts many processes, of which the first compiles for minutes
@pytest.mark.parametrize("name", BREAKS)
def test_a_recipe_goes_on_to_the_same_bits(name, tmp_path, monkeypatch):
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "programs"))
  monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
  stages = small_recipe(name).stages
  killed_recipe.run(tmp_path / "unbroken", name)
  for each in (*BREAKS[name], ()):
    killed_recipe.run(tmp_path / "killed", name, *each)
  assert bits(tmp_path / "killed", stages) == bits(tmp_path / "unbroken", stages)
  assert (tmp_path / "killed" / "report.html").exists()
