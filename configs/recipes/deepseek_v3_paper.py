"""Holds DeepSeek-V3's numbers (2412.19437, section 5) for configs/recipes/deepseek_v3.py.

Of SFT: 1.5M samples, 2 epochs, a cosine from 5e-6 to 1e-6; configs/sft_deepseek_v3.py has them. Of RL the paper says
that it is GRPO at a high temperature for the expert: its numbers are R1's (2501.12948), and 1.2 is ours. Batch sizes,
lengths, the reward models' numbers, and how the 1.5M samples divide are ours, too.

The nearest dense model here, Qwen2.5-32B, stands for DeepSeek-V3-Base and for the reasoner, R1.
"""

from ml_collections import ConfigDict

from configs import tiny_generative_grpo
from configs.recipes import assistant, reasoning
from posttrain_jax.data.judgements import ENGLISH

_AS_ASKED = "{prompt}"
_MODEL = "Qwen2.5-32B"
_REWARDS = "posttrain_jax.rewards"
# Rows of the paper's files.
ROWS = {
  "problems": 750_000,
  "sums": 750_000,  # problems of RL and of rejection sampling; the world has only sums
  "people": 20_000,
  "refusals": 2_000,
  "requests": 750_000,
  "asked": 100_000,
  "judgements": 100_000,
  "comparisons": 100_000,
}
LABELS = {"chat": "demonstration", "judge": "check", "preference": "comparison"}  # of stages that read people's files


def set_paper(config: ConfigDict) -> None:
  """Puts the paper's numbers into the config of deepseek_v3."""
  config.base, config.reasoner, config.topology = _MODEL, _MODEL, "v5p:4x4x8"
  del config.unprompted  # the paper's reasoner has the system prompt
  for name in ("expert_sft", "chat", "sft"):
    config[name] = reasoning.paper_sft()
  config.expert, config.v3 = reasoning.paper_rl(), reasoning.paper_rl()
  config.expert.rollout.sampling.temperature = 1.2
  config.v3.steps = 106  # 1,700 updates of 32 questions, as in R1's last stage
  config.v3.scoring.unchecked_only = True
  config.asking = tiny_generative_grpo.judge()
  config.asking.update(low=0, high=9, chat=True, max_prompt_length=8192, max_new_tokens=2048)
  config.asking.wording = dict(template=ENGLISH.template, mark=ENGLISH.mark)
  config.v3.rollout.update(max_new_tokens=4096)
  for name in ("reflective", "chosen", "accepted"):
    _set_collection(config[name])
  config.reflective.distillation.update(system="", original="solution")  # the usual system prompt for reflection
  config.reflective.selection.threshold = 2.0
  config.reflective.rewards.functions = _functions()
  config.chosen.prompts.limit = 0
  config.chosen.rewards.functions = _functions()
  config.chosen.rewards.functions.short.update(weight=0.5)
  config.accepted.selection.threshold = float("-inf")  # people check the answers, and no rule does
  config.accepted.rollout.update(samples=1, max_new_tokens=4096)
  config.preference.preferences.update(chat=True, max_prompt_length=1024, max_answer_length=4096)
  config.preference.update(batch_size=128, epochs=1)
  config.preference.optimizer.learning_rate = 1e-5
  config.judge.demonstrations.update(template=_AS_ASKED, chat=True, row_length=8192, low=0, high=9)
  config.judge.demonstrations.wording = dict(config.asking.wording)
  config.judge.update(steps=0, epochs=1, batch_size=128)
  config.judge.optimizer.learning_rate = 5e-6
  config.judge.eval.every = 0
  for name in ("preference", "judge"):
    assistant.shard(config[name])


def _set_collection(section: ConfigDict) -> None:
  assistant.shard(section, tensor=8)
  section.prompts.update(template=_AS_ASKED, chat=True)
  section.rollout.update(slots=512, max_prompt_length=1024, max_new_tokens=32768)


def _functions() -> ConfigDict:
  """Returns the rewards of answers that are collected.

  They must be right and in form. Their brevity has weight 0.
  """
  return ConfigDict(
    dict(
      correct=dict(function=f"{_REWARDS}.symbolic:math_equal", weight=1.0, options=dict(style="tag"), lowest=0.0),
      form=dict(function=f"{_REWARDS}.verifiers:think_answer_format", weight=1.0, options=dict(), lowest=0.0),
      short=dict(
        function="posttrain_jax.data.assistant_world.rewards:brevity",
        weight=0.0,
        options=dict(longest=32768),
        lowest=0.0,
      ),
    )
  )
