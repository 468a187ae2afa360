"""Holds R1's numbers (2501.12948) for configs/recipes/r1.py.

Of RL: rate 3e-6, KL coefficient .001, 16 answers to each of 32 questions an update, clip 10; temperature 1, and .7 in
the last stage with its 1,700 updates. Of the second SFT: some 800,000 samples in 2 epochs. The paper gives neither the
rate nor the batch of its SFT: those of DeepSeek-V3 and 128 rows are ours, and so are the reward model's numbers.
"""

from ml_collections import ConfigDict

from configs import r1_zero_qwen2_5
from configs.recipes import assistant, reasoning

_AS_ASKED = "{prompt}"
# Rows of the paper's files: about 600,000 answers to some 80,000 problems are chosen, 8 to each.
ROWS = {"sums.jsonl": 80_000, "others.jsonl": 200_000}


def set_paper(config: ConfigDict) -> None:
  """Puts the paper's numbers into the config of r1."""
  config.base, config.small_base, config.topology = "Qwen2.5-32B", "Qwen2.5-7B", "v5p:4x4x8"
  config.zero = r1_zero_qwen2_5.get_config("32b")
  config.reasoning = _with_language()
  config.r1 = _with_language()
  config.r1.steps = 106  # 1,700 updates of 32 questions
  config.r1.rollout.sampling.temperature = 0.7
  config.r1.scoring.update(unchecked_only=True, summary_after="</think>")
  config.small_zero = r1_zero_qwen2_5.get_config("7b")
  for name in ("cold", "sft", "distilled"):
    config[name] = reasoning.paper_sft()
  config.chosen.prompts.update(template=_AS_ASKED, chat=True)
  config.chosen.rollout.update(samples=16, slots=512, max_prompt_length=1024, max_new_tokens=32768)
  config.chosen.selection.keep = 8
  config.preference.preferences.update(chat=True, max_prompt_length=1024, max_answer_length=2048)
  config.preference.update(batch_size=128, epochs=1)
  config.preference.optimizer.learning_rate = 1e-5
  assistant.shard(config.chosen, tensor=8)
  assistant.shard(config.preference)
  for name in ("zero", "small_zero"):
    config[name].model.path = ""


def _with_language() -> ConfigDict:
  """Returns the config of RL with a reward for the asked language."""
  config = reasoning.paper_rl()
  config.rewards.functions.language = dict(
    function="posttrain_jax.rewards.language:consistency", weight=1.0, options=dict(), lowest=0.0
  )
  return config
