"""Measures and compares the models of a recipe in the assistant world."""

from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from configs.recipes import assistant
from posttrain_jax.recipes import alignment, comparison, gains
from posttrain_jax.recipes.recipe import Output, Stage, seeded
from posttrain_jax.recipes.runners import ALIGNMENT, COMPARE, GAINS


def measured(name: str, model: Output | str, config: ConfigDict, reference: Output | str) -> Stage:
  """Returns the stage that measures a model; the KL is that to the reference."""
  inputs = {"model.path": model, "reference": reference}
  return Stage(f"{name}_measures", run=ALIGNMENT, config=config, inputs=inputs)


def measured_few_shot(
  name: str, model: Output | str, config: ConfigDict, demonstrations: Output | str, kinds: Sequence[str]
) -> Stage:
  """Returns the stage that measures a model with answered requests of some kinds before each request."""
  config = config.copy_and_resolve_references().unlock()
  config.shots = dict(path="", kinds=tuple(kinds))
  return Stage(
    f"{name}_measures", run=ALIGNMENT, config=config, inputs={"model.path": model, "shots.path": demonstrations}
  )


def rated(pairs: Sequence[tuple[str, str, str]], measured: Mapping[str, Stage], seed: int) -> Stage:
  """Returns the stage in which the first rater compares models' answers.

  The wins are those of the model after.

  Args:
    pairs: (name, model before, model after), as in `compared`.
    measured: model to the stage that measures it.
    seed: of the rater's noise and of the intervals.
  """
  inputs = {}
  for name, before, after in pairs:
    inputs[f"pairs.{name}.ours"] = measured[after].file(alignment.ANSWERS)
    inputs[f"pairs.{name}.theirs"] = measured[before].file(alignment.ANSWERS)
  config = comparison.pairs(*(name for name, _, _ in pairs))
  return Stage("comparison", run=COMPARE, config=seeded(config, seed), inputs=inputs)


def compared(pairs: Sequence[tuple[str, str, str]], measured: Mapping[str, Stage], seed: int) -> Stage:
  """Returns the stage that compares models with each other.

  Args:
    pairs: (name, model before, model after).
    measured: model to the stage that measures it.
    seed: of the intervals.
  """
  answers = {name: stage.file(alignment.ANSWERS) for name, stage in measured.items()}
  inputs = {}
  for name, before, after in pairs:
    inputs |= {f"pairs.{name}.before": answers[before], f"pairs.{name}.after": answers[after]}
  config = gains.pairs(*(name for name, _, _ in pairs))
  return Stage("gains", run=GAINS, config=seeded(config, seed), inputs=inputs)


def measures(*, requests: int, samples: int) -> ConfigDict:
  """Returns the config of these measurements."""
  return alignment.measurement(assistant.world().to_dict(), requests=requests, samples=samples)
