"""Holds what recipes need of a generative reward model in the assistant world.

That is the stage that writes its data, its training, the `judge` section of runs that it judges, and a stage that
compares such runs with others. Fields without a comment are explained in configs/tiny_generative_reward.py and
configs/tiny_generative_grpo.py.
"""

from ml_collections import ConfigDict

from configs import assistant_base, tiny_generative_grpo, tiny_generative_reward
from configs.recipes import assistant
from posttrain_jax.data.assistant_world.judgements import HIGH, LOW, WORDING
from posttrain_jax.recipes import equal_distance, judgement_data
from posttrain_jax.recipes.checks import check_of
from posttrain_jax.recipes.runners import function

JUDGEMENTS = function(
  judgement_data.write_judgements,
  judgement_data.JUDGEMENTS,
  judgement_data.COMPARISONS,
  check=check_of(judgement_data.WorldJudgementSettings),
  forecast=judgement_data.forecast_judgements,
)
# What runs on different reward models earned at equal KL.
EQUAL_DISTANCE = function(
  equal_distance.compare, equal_distance.DISTANCES, equal_distance.PICTURE, check=equal_distance.check
)
# Tokens of an answer with what it is an answer to, and of a judgement.
_LONGEST = dict(max_prompt_length=sum(assistant.LONGEST.values()) + 8, max_new_tokens=72)


def judgements() -> ConfigDict:
  """Returns the config of the stage that writes judgements and comparisons."""
  return ConfigDict(
    dict(
      world=assistant.world(),
      candidates="",
      seed=0,
      answers=3,  # different answers of the policy to each prompt
      written=6,  # answers to each prompt that authors of the world write, of which two thirds are bad
      pairs=4,  # comparisons of each prompt's answers by their scores, at most
      permuted=False,  # True: each answer gets the judgement of another one, to see what reward models gain from them
    )
  )


def generative_reward() -> ConfigDict:
  """Returns the config of a generative reward model from a model of the world."""
  config = tiny_generative_reward.get_config()
  config.model = assistant_base.get_config().model
  config.demonstrations.update(low=LOW, high=HIGH, row_length=192)
  config.demonstrations.wording = _wording()
  config.update(steps=1200, batch_size=16)
  config.optimizer.update(learning_rate=2e-3, warmup_updates=20, decay_updates=0, end_fraction=0.1)
  config.eval.update(every=600, samples=2, slots=64, **_LONGEST)
  config.checkpoint.update(every=600, keep=1)
  config.logging.update(tensorboard=False, report=False)
  return config


def judge() -> ConfigDict:
  """Returns the `judge` section of a run in the world; a stage's input gives its path."""
  config = tiny_generative_grpo.judge()
  config.update(wording=_wording(), low=LOW, high=HIGH, slots=64, **_LONGEST)
  return config


def _wording() -> ConfigDict:
  return ConfigDict(dict(template=WORDING.template, mark=WORDING.mark))
