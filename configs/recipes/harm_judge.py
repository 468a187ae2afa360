"""Holds the stages of a model that judges whether answers help with harm.

They are answers about half of the categories of harm, each with the rule's verdict, and SFT of the base model on these.
"""

import functools

from ml_collections import ConfigDict

from configs.recipes import assistant
from posttrain_jax.recipes import red_team_data
from posttrain_jax.recipes.recipe import Output, Stage
from posttrain_jax.recipes.runners import SFT, function
from posttrain_jax.runs.settings import parse

VERDICTS = function(
  red_team_data.write_verdicts,
  red_team_data.VERDICTS,
  check=functools.partial(parse, red_team_data.VerdictSettings),
  forecast=red_team_data.forecast_verdicts,
)


def verdicts() -> ConfigDict:
  """Returns the config of what the judge learns from."""
  return ConfigDict(
    dict(
      world=assistant.world(),
      seed=0,
      repeats=24,  # answers to each request about how a device is built
      permuted=False,
    )
  )


def sft() -> ConfigDict:
  """Returns the config of the judge's SFT."""
  config = assistant.sft()
  config.update(steps=0, epochs=1, batch_size=8, loss_weighting="sequence")  # a verdict is one token
  config.demonstrations.update(template="{prompt}", row_length=128)
  config.optimizer.learning_rate = 2e-3
  return config


def stages(config: ConfigDict, base: Output | str) -> tuple[Stage, Stage]:
  """Returns the stages `verdicts` and `judge`.

  Args:
    config: of the recipe; has sections of these names.
    base: the base model.
  """
  written = assistant.stage(config, "verdicts", VERDICTS, labels="check")
  rows = {"model.path": base, "demonstrations.path": written.file(red_team_data.VERDICTS)}
  return written, assistant.stage(config, "judge", SFT, rows)
