"""Trains DeepSeek-V3's expert and both reward models with good signals and with broken ones in a small world.

python -m tests.recipes.broken_expert DIR

The expert's rewards are broken as in `broken_signals`: chance draws them. Broken judgements stand beside other answers,
and so do the comparisons that are made of their scores.
"""

import json
import pathlib
import sys

from absl import flags

from configs.recipes import assistant, deepseek_v3, generative_judge, measuring, reasoning
from posttrain_jax.recipes import assistant_data, joining, judgement_data
from posttrain_jax.recipes.recipe import Stage
from posttrain_jax.recipes.runners import GENERATIVE_REWARD, GRPO, REWARD_MODEL, SFT, function
from tests.recipes.broken_signals import base_config, candidates, of_small_world, rewarded_by_chance
from tests.recipes.made_recipe import run


def stages():
  """Returns the stages; those with a broken signal have _broken at the end of their names."""
  base = Stage("base", run=SFT, config=base_config())
  return [base, *_experts(base), *_judges(base)]


def _experts(base):
  """Returns the stages of an expert that checks some of its answers before RL, and of its measures."""
  data = [_demonstrations("checked", "reasoner", 160), _demonstrations("plain", "solver", 640)]
  files = {each.name: each.file(assistant_data.DEMONSTRATIONS) for each in data}
  joined = assistant.joined("joined", files, raw=files)
  sft = reasoning.sft(epochs=20)
  sft.demonstrations.template = "{prompt}"
  sft.optimizer.learning_rate = 2e-3
  inputs = {"model.path": base.model, "demonstrations.path": joined.file(joining.ROWS)}
  start = Stage("start", run=SFT, config=sft, inputs=inputs)
  prompts = of_small_world(assistant.prompts(sum=400))
  asked = Stage("asked", run=assistant.PROMPTS, config=prompts)
  inputs = {"model.path": start.model, "prompts.path": asked.file(assistant_data.PROMPTS)}
  rewards = deepseek_v3.get_config().expert
  rewards.steps = 15
  rewards.optimizer.learning_rate = 4e-4
  experts = [
    Stage("expert", run=GRPO, config=rewards, inputs=inputs),
    Stage("expert_broken", run=GRPO, config=rewarded_by_chance(rewards), inputs=inputs),
  ]
  measures = of_small_world(measuring.measures(requests=2, samples=2), "measures")
  measures.measures.update(plain=8, sums=64, max_new_tokens=reasoning.LONGEST["max_new_tokens"])
  measured = {each.name: measuring.measured(each.name, each.model, measures, base.model) for each in (start, *experts)}
  pairs = [(each.name, "start", each.name) for each in experts]
  pairs.append(("expert_over_broken", "expert_broken", "expert"))
  return [*data, joined, start, asked, *experts, *measured.values(), measuring.compared(pairs, measured, 0)]


def _judges(base):
  """Returns the stages of reward models of both kinds, and of their data."""
  written = Stage("written", run=function(candidates, "candidates"), config=base.config)
  judge, reward = generative_judge.generative_reward(), deepseek_v3.get_config().preference
  judge.update(steps=200, batch_size=8)
  judge.eval.every = judge.checkpoint.every = 200
  judge.demonstrations.held_out = reward.preferences.held_out = 0.25
  reward.preferences.max_answer_length = 96  # a crowd's answers may be long
  found = [written]
  for broken, end in ((False, ""), (True, "_broken")):
    config = of_small_world(generative_judge.judgements())
    config.permuted = broken
    inputs = {"candidates": written.file("candidates")}
    data = Stage(f"judgements{end}", run=generative_judge.JUDGEMENTS, config=config, inputs=inputs)
    inputs = {"model.path": base.model, "demonstrations.path": data.file(judgement_data.JUDGEMENTS)}
    found += [data, Stage(f"judge{end}", run=GENERATIVE_REWARD, config=judge, inputs=inputs)]
    inputs = {"model.path": base.model, "preferences.path": data.file(judgement_data.COMPARISONS)}
    found.append(Stage(f"preference{end}", run=REWARD_MODEL, config=reward, inputs=inputs))
  return found


def _demonstrations(name, author, count):
  config = of_small_world(assistant.demonstrations(sum=count))
  config.author = author
  return Stage(name, run=assistant.DEMONSTRATIONS, config=config)


if __name__ == "__main__":
  flags.FLAGS.mark_as_parsed()
  directory = pathlib.Path(sys.argv[1])
  result = run(stages(), directory)
  metrics = {stage["name"]: stage["metrics"] for stage in result["stages"]}
  (directory / "metrics.json").write_text(json.dumps(metrics))
