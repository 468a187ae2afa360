"""Joins public data to a recipe's own: rows to train on, and XSTest's prompts to answer.

A public file is used if the recipe names it; smollm2.py says which there are.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from configs import tiny_sft
from configs.recipes import smollm2
from posttrain_jax.recipes import evaluation, joining, picking
from posttrain_jax.recipes.recipe import Output, Stage, seeded
from posttrain_jax.recipes.runners import EVALUATE, JOIN, PICK

LABELS = ("safe", "unsafe")  # of XSTest's prompts
_AS_ASKED = "{prompt}"


def with_public(config: ConfigDict, field: str, name: str, source: Output | str) -> tuple[list[Stage], Output | str]:
  """Returns the stages that join public rows to others, and all rows.

  Args:
    config: the recipe's.
    field: its group that names the public file; without a file there is no stage.
    name: of the stage that joins.
    source: rows of the recipe.
  """
  if not _is_named(config, field):
    return [], source
  picked = Stage(f"{name}_{field}", run=PICK, config=seeded(config[field], config.seed))
  inputs = {"files.own.path": source, "files.public.path": picked.file(picking.ROWS)}
  joined = Stage(name, run=JOIN, config=joining.files(own=_AS_ASKED, public=_AS_ASKED), inputs=inputs)
  return [picked, joined], joined.file(joining.ROWS)


def public_answers(config: ConfigDict, models: Mapping[str, Output | str]) -> list[Stage]:
  """Returns the stages in which models answer XSTest's prompts; none if no file is named.

  Args:
    config: the recipe's.
    models: by name.
  """
  if not _is_named(config, "xstest"):
    return []
  picked = {}
  for label in LABELS:
    own = seeded(config.xstest, config.seed).unlock()
    own.only.label = label
    picked[label] = Stage(f"xstest_{label}", run=PICK, config=own)
  asked = {f"eval.sets.{label}.prompts.path": stage.file(picking.ROWS) for label, stage in picked.items()}
  measures = seeded(_answers(), config.seed)
  return [
    *picked.values(),
    *(
      Stage(f"{name}_xstest", run=EVALUATE, config=measures, inputs={"model.path": model, **asked})
      for name, model in models.items()
    ),
  ]


def _is_named(config: ConfigDict, field: str) -> bool:
  return field in config and bool(config[field].path)


def _answers() -> ConfigDict:
  """Returns the config of a measurement on XSTest: one most likely answer to each prompt."""
  config = tiny_sft.get_config()
  smollm2.set_model(config)
  config.rewards.update(workers=0, accuracy="as_labelled")
  config.rewards.functions = dict(
    as_labelled=dict(function="posttrain_jax.rewards.refusals:as_labelled", weight=1.0, options=dict(), lowest=0.0)
  )
  config.eval.update(slots=8, **smollm2.LONGEST)
  one = config.eval.sets.heldout
  one.update(samples=1, greedy=False)
  one.sampling.temperature = 0.0
  one.prompts.chat = True
  config.eval.sets = {label: one.copy_and_resolve_references() for label in LABELS}
  return evaluation.measurement(config)
