"""Compiles the programs of a recipe's stages for a topology, in place of a run."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from posttrain_jax.performance.compile.programs_of_a_run import parse_method
from posttrain_jax.performance.compile.proof import prove
from posttrain_jax.recipes.recipe import Output, Stage
from posttrain_jax.types import InputError

_MODEL = "model.path"
_FREE = ("seed", "steps", "prompts", "rewards", "checkpoint", "logging")  # fields that no program depends on


def prove_stages(stages: Sequence[Stage], topology: str, *, say: Callable[[str], None] = print) -> dict[str, Any]:
  """Compiles the programs of each stage whose method `experiments.compile` knows.

  A stage's model has the sizes of the base model that it comes from, in the end: a public model's name. If an earlier
  stage differs in its data or its rules for rewards only, it has the same programs, which are not compiled again.

  Args:
    stages: of a recipe, checked.
    topology: such as "v5p:4x4x8".
    say: takes a line for each stage.

  Returns:
    Stage to the report of `performance.compile.proof.prove`; None for a stage that is not compiled.

  Raises:
    InputError: if libtpu is not installed, or the topology is unknown; or, once all are compiled, if a program does not
      fit.
  """
  reports: dict[str, Any] = {}
  known: dict[str, Stage] = {}
  compiled: dict[str, str] = {}  # config without data → stage
  for stage in stages:
    known[stage.name] = stage
    config = with_base(stage, known)
    if not _is_compiled(config):
      say(f"stage {stage.name}: a stage of {stage.run.name} is not compiled")
      reports[stage.name] = None
      continue
    alike = compiled.setdefault(_without_data(stage, config), stage.name)
    if alike != stage.name:
      say(f"stage {stage.name}: the programs of {alike}")
      reports[stage.name] = reports[alike]
      continue
    report = prove(config, topology_name=topology)
    largest = max((each.get("peak_gib", each.get("needs_gib")) for each in report["programs"].values()), default=0)
    say(
      f"stage {stage.name}: {len(report['programs'])} programs, the largest takes {largest} GiB of {report['hbm_gib']}"
    )
    reports[stage.name] = report
  refused = [
    f"stage {name}: {line}"
    for name, each in reports.items()
    if each and name in compiled.values()
    for line in each["refused"]
  ]
  if refused:
    others = f" (and {len(refused) - 1} others)" if len(refused) > 1 else ""
    raise InputError(f"topology {topology}: {refused[0]}{others}")
  return reports


def with_base(stage: Stage, known: Mapping[str, Stage]) -> ConfigDict:
  """Returns a stage's config with the name of the base model in it."""
  named = {field: _base(given, known) if field == _MODEL else _named(given) for field, given in stage.inputs.items()}
  return _filled(stage.config, named)


def _filled(config: ConfigDict, values: Mapping[str, str]) -> ConfigDict:
  """Returns a copy of a config with values at dotted fields."""
  config = config.copy_and_resolve_references().unlock()
  for field, value in values.items():
    *groups, last = field.split(".")
    section = config
    for group in groups:
      section = section[group]
    section[last] = value
  return config.lock()


def _without_data(stage: Stage, config: ConfigDict) -> str:
  """Returns what a stage's programs depend on as text: kind, config, and which inputs there are."""
  bare = _filled(config, {field: "" for field in stage.inputs if field != _MODEL}).unlock()
  for name in _FREE:
    if name in bare:
      del bare[name]
  return f"{stage.run.name} {sorted(stage.inputs)} {bare.to_json_best_effort(sort_keys=True)}"


def _base(given: Output | str, known: Mapping[str, Stage]) -> str:
  """Returns the name of the model from outside the recipe that an output comes from."""
  while isinstance(given, Output):
    stage = known[given.stage]
    before = [each for field, each in stage.inputs.items() if re.fullmatch(r"model\.path|models\..*\.path", field)]
    given = before[0] if before else stage.config.model.path
  return given


def _named(given: Output | str) -> str:
  return f"{given.stage}/{given.file}".rstrip("/") if isinstance(given, Output) else given


def _is_compiled(config: ConfigDict) -> bool:
  try:
    parse_method(config)
  except InputError:
    return False
  return True
