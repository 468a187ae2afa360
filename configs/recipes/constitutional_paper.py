"""Holds Constitutional AI's numbers (2212.08073, sections 3.2 and 4.2) for configs/recipes/constitutional_ai.py.

Of SL-CAI: 182,831 red-team prompts with four revisions each, two helpful answers to each of 135,296 prompts, one epoch
with 1,024 rows an update. Of the preference model: 182,831 comparisons about harmlessness by the judge and 135,296
about helpfulness by people. Of RL: 491,142 red-team prompts and 474,300 others. The paper gives no learning rates,
lengths or batches of the preference model and of PPO: those are ours.
"""

import dataclasses

from ml_collections import ConfigDict

from configs import ppo_instructgpt, sft_instructgpt
from configs.recipes import assistant
from posttrain_jax.recipes.recipe import Stage
from posttrain_jax.recipes.runners import COLLECT, PPO, REWARD_MODEL, SFT

_MODEL = "Qwen2.5-32B"
# Rows of the paper's files.
ROWS = {
  "red_team.jsonl": 182_831,
  "revised.jsonl": 4 * 182_831 + 2 * 135_296,
  "comparisons.jsonl": 182_831 + 135_296,
  "asked.jsonl": 491_142 + 474_300,
}


def set_paper(config: ConfigDict) -> None:
  """Puts the paper's numbers into the config of constitutional_ai."""
  config.base, config.topology = _MODEL, "v5p:4x4x8"
  config.sft = sft_instructgpt.get_config()
  config.sft.update(epochs=1, batch_size=1024)
  config.sft.eval.every = 0
  config.collect.prompts.update(template="{prompt}", chat=True)
  config.collect.rollout.update(samples=2, slots=512, max_prompt_length=1024, max_new_tokens=1024)
  config.reward.preferences.update(chat=True, max_prompt_length=1024, max_answer_length=1024)
  config.reward.update(batch_size=256, epochs=1)
  config.reward.optimizer.update(learning_rate=9e-6, warmup_updates=0)
  config.ppo = ppo_instructgpt.get_config("ppo")
  config.ppo.steps = ROWS["asked.jsonl"] // config.ppo.rollout.groups
  for name in ("sft", "reward"):
    assistant.shard(config[name])
  for name in ("collect", "ppo"):  # which sample
    assistant.shard(config[name], tensor=8)


def stages(config: ConfigDict) -> list[Stage]:
  """Returns SL-CAI on files of revisions, its answers in pairs, the preference model and PPO."""
  cai = assistant.stage(config, "sft", SFT, {"model.path": config.base, "demonstrations.path": "revised.jsonl"})
  inputs = {"model.path": cai.model, "prompts.path": "red_team.jsonl"}
  answers = assistant.stage(config, "collect", COLLECT, inputs)
  inputs = {"model.path": cai.model, "preferences.path": "comparisons.jsonl"}
  reward = assistant.stage(config, "reward", REWARD_MODEL, inputs, labels="comparison")
  inputs = {"model.path": cai.model, "reward_model": reward.model, "prompts.path": "asked.jsonl"}
  ppo = assistant.stage(config, "ppo", PPO, inputs)
  return [
    dataclasses.replace(stage, rows={field: ROWS[given] for field, given in stage.inputs.items() if given in ROWS})
    for stage in (cai, answers, reward, ppo)
  ]
