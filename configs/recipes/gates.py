"""Holds the bounds of a recipe: how much each stage may lose.

    --config.gates.STAGE.may_fall.seen/facts=0.1      a measure of which more is better
    --config.gates.STAGE.may_rise.perplexity=0.3      a measure of which less is better

A stage that loses too much stops the recipe. It does if the whole 95 % interval of its loss is above the bound. Stages
without bounds have no gate.
"""

from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from posttrain_jax.evaluation.alignment_settings import AlignmentSettings, measure_names
from posttrain_jax.recipes import alignment, gate
from posttrain_jax.recipes.recipe import Stage, seeded
from posttrain_jax.recipes.runners import GATE, METRICS_FILE
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError


def bounds(*stages: str) -> ConfigDict:
  """Returns the bounds of stages, none of which is set."""
  return ConfigDict({stage: dict(may_fall={}, may_rise={}) for stage in stages})


def gated(
  stages: Sequence[Stage],
  started: Mapping[str, str],
  measured: Mapping[str, Stage],
  config: ConfigDict,
  section: Mapping[str, str] | None = None,
) -> list[Stage]:
  """Puts gates behind the measurements of stages that have bounds.

  Args:
    stages: of the recipe, in order.
    started: stage to the model that its losses are counted from.
    measured: model to the stage that measures it.
    config: the recipe's, with `gates`, `measures` and `seed`.
    section: stage to its field of `gates`, where it has another name.

  Raises:
    InputError: if no measurement has a bounded measure.
  """
  found = list(stages)
  for name, before in started.items():
    field = (section or {}).get(name, name)
    given = config.gates[field]
    if not (given.may_fall or given.may_rise):
      continue
    known = measure_names(parse(AlignmentSettings, config.measures.measures, "measures"))
    for group in ("may_fall", "may_rise"):
      for measure in given[group]:
        if measure not in known:
          raise InputError(f"gates.{field}.{group}.{measure}: no such measure, expected one of: {', '.join(known)}")
    found.insert(_place(found, measured[before], measured[name]), _gate(name, given, before, measured, config.seed))
  return found


def _place(stages: Sequence[Stage], *after: Stage) -> int:
  return 1 + max(index for index, stage in enumerate(stages) if stage in after)


def _gate(name: str, given: ConfigDict, before: str, measured: Mapping[str, Stage], seed: int) -> Stage:
  inputs = {}
  for field, model in (("before", before), ("after", name)):
    inputs |= {
      f"{field}.metrics": measured[model].file(METRICS_FILE),
      f"{field}.answers": measured[model].file(alignment.ANSWERS),
    }
  return Stage(f"{name}_gate", run=GATE, config=seeded(gate.gate(name, given.to_dict()), seed), inputs=inputs)
