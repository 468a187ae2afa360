"""Holds the configs of single stages for configs/recipes/deepseek_v3.py.

Fields without a comment are explained in configs/tiny_collect.py, configs/tiny_distillation.py and
configs/tiny_grpo.py.
"""

from ml_collections import ConfigDict

from configs import tiny_distillation
from configs.recipes import assistant, reasoning

SYSTEM = "check that the work is right . "  # asks for reflection in the world's words


def reflective() -> ConfigDict:
  """Returns the config of the distillation that makes both kinds of samples."""
  config = unprompted()
  config.source = "distillation"
  config.distillation = tiny_distillation.get_config().distillation
  config.distillation.update(system=SYSTEM, original="completion", original_template="{original}")
  config.rollout.max_prompt_length = 40
  config.prompts.limit = 0  # all
  return config


def unprompted() -> ConfigDict:
  """Returns the config of the reasoner's answers to some problems without the system prompt."""
  config = assistant.collection()
  config.prompts.limit = 64
  config.rewards.functions = reasoning.functions(
    correct=("sum_accuracy", 1.0), form=("thought_form", 1.0), checks=("checks", 1.0)
  )
  config.rollout.update(reasoning.LONGEST, samples=4)
  config.selection.threshold = 3.0  # right, in form, and checked
  return config


def expert() -> ConfigDict:
  """Returns the config of the expert's RL, which rewards thoughts and right checks, too."""
  config = reasoning.rl(form="thought_form")
  config.steps = 12  # half of the answers check themselves after five or six
  config.optimizer.learning_rate = 2e-4
  config.rewards.functions = reasoning.functions(
    correct=("sum_accuracy", 1.0),
    form=("thought_form", 1.0),
    checked=("checked_steps", 0.5),
    language=("language_consistency", 1.0),
  )
  config.rollout.sampling.temperature = 1.1  # "high": above what the model was trained at
  return config


def chosen() -> ConfigDict:
  """Returns the config of the rejection sampling that keeps the shortest right answer."""
  config = assistant.collection()
  config.prompts.limit = 1600
  config.rewards.functions = reasoning.functions(
    correct=("sum_accuracy", 1.0), form=("thought_form", 1.0), short=("brevity", 0.5)
  )
  config.rollout.update(reasoning.LONGEST, samples=8)
  config.selection.threshold = 2.0  # right and in form; the shortest of these is the best
  return config


def all_scenarios() -> ConfigDict:
  """Returns the config of RL in which rules and a reward model judge one batch.

  The reward model is not in it.
  """
  config = reasoning.rl(form="thought_form")
  config.steps = 60
  # Sums alone are checked by rule. What the rater thinks of an answer is measured and not rewarded.
  config.rewards.functions = reasoning.functions(correct=("sum_accuracy", 1.0), rated=("rated", 0.0))
  config.rewards.functions.rated.lowest = -5.0
  config.scoring.unchecked_only = True
  config.rollout.update(groups=16, group_size=8, max_new_tokens=64)
  config.objective.update(clip_low=0.2, clip_high=0.2)
  config.reference.refresh_every = 0
  config.learner.updates_per_step = 1
  config.optimizer.update(learning_rate=3e-4, warmup_updates=5)
  config.logging.console = ConfigDict(
    {
      "reward/reward_model": "score",
      "reward/rated": "rated",
      "accuracy/mean": "sums",
      "kl/reference": "KL",
    }
  )
  return config
