"""Tests that PPO gains what the rankings say: with ranks drawn by chance the gain is gone."""

import dataclasses

import pytest

from configs.recipes import assistant, instructgpt
from posttrain_jax.recipes import assistant_data
from posttrain_jax.recipes.recipe import Stage
from posttrain_jax.recipes.runners import PPO, REWARD_MODEL, SFT, function
from tests.data.assistant_world.small_world import SETTINGS
from tests.recipes.broken_signal_test import KINDS, candidates, of_small_world
from tests.recipes.made_recipe import run


def stages():
  config = instructgpt.get_config()
  plain = assistant.assistant_base.get_config()
  del plain.base
  plain.demonstrations.corpus.update(documents=6000)
  plain.demonstrations.corpus.world = dataclasses.asdict(SETTINGS)
  plain.steps = 300
  base = Stage("base", run=SFT, config=plain)
  people = Stage("people", run=assistant.DEMONSTRATIONS, config=of_small_world(assistant.demonstrations(**KINDS)))
  asked = Stage("asked", run=assistant.PROMPTS, config=of_small_world(assistant.prompts(**KINDS)))
  documents = Stage("documents", run=assistant.DOCUMENTS, config=of_small_world(assistant.documents(400)))
  demonstrations = people.file(assistant_data.DEMONSTRATIONS)
  sft = assistant.sft()
  sft.steps = 60
  inputs = {"model.path": base.model, "demonstrations.path": demonstrations}
  model = Stage("sft", run=SFT, config=sft, inputs=inputs)
  written = Stage("written", run=function(candidates, "candidates"), config=plain)
  measures = assistant.measures(requests=24, samples=2)
  measures.measures.world = dataclasses.asdict(SETTINGS)
  measured = {"sft": assistant.measured("sft", model.model, measures, base.model)}
  found = [base, people, asked, documents, model, written, measured["sft"]]
  config.reward.update(epochs=4, batch_size=16)
  config.reward.preferences.max_answer_length = 96
  config.ppo.update(steps=40)
  config.ppo.average.decay = 0.9  # of fewer steps
  for end in ("", "_broken"):
    own = assistant.rankings()
    own.update(shuffled=bool(end), least=4, most=4)
    rankings = Stage(
      f"rankings{end}", run=assistant.RANKINGS, config=own, inputs={"candidates": written.file("candidates")}
    )
    inputs = {"model.path": model.model, "demonstrations.path": demonstrations}
    inputs["preferences.path"] = rankings.file(assistant_data.RANKINGS)
    reward = Stage(f"reward{end}", run=REWARD_MODEL, config=config.reward, inputs=inputs)
    inputs = {"model.path": model.model, "reward_model": reward.model}
    inputs |= {"prompts.path": asked.file("prompts.jsonl")}
    inputs |= {"ptx.demonstrations.path": documents.file("documents.jsonl")}
    ppo = Stage(f"ppo{end}", run=PPO, config=config.ppo, inputs=inputs)
    measured[ppo.name] = assistant.measured(ppo.name, ppo.model, measures, base.model)
    found += [rankings, reward, ppo, measured[ppo.name]]
  return [*found, assistant.compared([(name, "sft", name) for name in ("ppo", "ppo_broken")], measured, 0)]


@pytest.mark.slow  # trains six models, some minutes
def test_with_ranks_drawn_by_chance_ppo_gains_nothing(tmp_path):
  result = run(stages(), tmp_path)
  metrics = {each["name"]: each["metrics"] for each in result["stages"]}
  accuracy = {name: metrics[name]["eval/heldout/accuracy"] for name in ("reward", "reward_broken")}
  assert accuracy["reward"] > 0.65 and abs(accuracy["reward_broken"] - 0.5) < 0.1
  gains = metrics["gains"]
  assert gains["ppo/seen/rated/low"] > 0
  assert gains["ppo_broken/seen/rated/high"] < gains["ppo/seen/rated/low"] and gains["ppo_broken/seen/rated/low"] < 0
