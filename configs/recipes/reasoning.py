"""Holds what recipes for reasoning have in common: SFT, RL and its rewards.

Both are there for tiny models and with the numbers of papers.

Fields without a comment are explained in configs/tiny_sft.py and configs/tiny_grpo.py.
"""

from ml_collections import ConfigDict

from configs import assistant_base, r1_zero_qwen2_5, sft_deepseek_v3, tiny_grpo
from configs.recipes import assistant
from posttrain_jax.data.assistant_world.requests import TEMPLATE

LONGEST = dict(max_prompt_length=32, max_new_tokens=96)  # a sum of four steps with its check has 80 tokens
_OWN = "posttrain_jax.data.assistant_world.rewards"


def sft(*, epochs: int) -> ConfigDict:
  """Returns the config of SFT on answers that may think first."""
  config = assistant.sft()
  config.update(steps=0, epochs=epochs, batch_size=8)
  config.demonstrations.row_length = 128
  return config


def rl(*, form: str) -> ConfigDict:
  """Returns the config of RL on sums; the reward for the asked language is off."""
  config = tiny_grpo.get_config()
  config.steps = 60
  config.model = assistant_base.get_config().model
  config.warmup.steps = 0
  config.prompts.template = TEMPLATE
  config.rewards = assistant.rewards()
  config.rewards.functions = functions(
    correct=("sum_accuracy", 1.0), form=(form, 1.0), language=("language_consistency", 0.0)
  )
  config.rollout.update(groups=16, group_size=16, slots=64, **LONGEST)
  config.objective.update(clip_low=1.0, clip_high=10.0, kl_coefficient=0.001)
  config.reference.refresh_every = 20  # steps after which the policy becomes the reference
  config.learner.updates_per_step = 4
  config.optimizer.update(learning_rate=1e-4)
  config.eval.update(every=0, own_share=0.0)
  config.eval.sets = ConfigDict()
  config.checkpoint.update(every=30, keep=1)
  config.logging.update(tensorboard=False, report=False, rollouts_every=20)
  config.logging.console = ConfigDict({"accuracy/mean": "accuracy", "length/mean": "tokens"})
  return config


def functions(**used: tuple[str, float]) -> ConfigDict:
  """Returns reward functions by name, from (function, weight).

  Mixed languages and checks are measured, too, and not rewarded unless they are given.
  """
  used |= {name: (name, 0.0) for name in ("mixed", "checks") if name not in used}
  return ConfigDict(
    {
      name: dict(function=f"{_OWN}:{made}", weight=weight, options={}, lowest=0.0)
      for name, (made, weight) in used.items()
    }
  )


def paper_sft() -> ConfigDict:
  """Returns the config of SFT with DeepSeek-V3's numbers, on long answers."""
  config = sft_deepseek_v3.get_config()
  config.eval.every = 0
  config.demonstrations.update(template="{prompt}", row_length=32768, held_out=0.0)
  config.batch_size = 128
  config.mesh.fsdp = -1
  return config


def paper_rl() -> ConfigDict:
  """Returns the config of RL with R1's numbers, on problems that a chat asks."""
  config = r1_zero_qwen2_5.get_config("32b")
  config.prompts.update(template="{prompt}", chat=True)
  config.model.path = ""
  return config
