"""Describes a recipe: a list of stages, and the files that pass between them.

A recipe file has `get_config(arg)`, whose fields flags may change, and `get_stages(config)`, which returns the stages
in an order in which each stands after those that it needs. docs/recipes.md shows one.
"""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections

from posttrain_jax.recipes.effort import Effort
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.types import InputError

RESERVED = ("checkpoints", "replaced", "rollouts")  # folders of a recipe's directory that are no stages'
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclasses.dataclass(frozen=True)
class Runner:
  """Describes a kind of stage: how it is checked, estimated and run.

  Attributes:
    name: of the kind, for tables and messages.
    run: does the work in a folder, or goes on with it; returns what was measured, if that is not in its metrics.jsonl.
    check: raises InputError if a config has a wrong field.
    forecast: estimates the work from the config.
    has_model: whether the folder can be loaded as a model when the stage has ended.
    files: names of files and folders in the folder that later stages may take.
    resumes: whether `run` goes on with a folder; else it starts again in an empty one.
    source: text that a stage's digest depends on besides its config, such as a function's source.
  """

  name: str
  run: Callable[[ml_collections.ConfigDict, pathlib.Path], Mapping[str, Any] | None]
  check: Callable[[ml_collections.ConfigDict], None]
  forecast: Callable[[ml_collections.ConfigDict, Forecast], Effort]
  has_model: bool
  files: tuple[str, ...] = ()
  resumes: bool = True
  source: str = ""


@dataclasses.dataclass(frozen=True)
class Output:
  """Describes what a stage gives to later ones.

  Attributes:
    stage: the stage's name.
    file: a file or folder that the stage writes; empty for its model.
  """

  stage: str
  file: str = ""

  def path(self, directory: pathlib.Path) -> pathlib.Path:
    """Returns where it is, or will be, in a recipe's directory."""
    return directory / self.stage / self.file


@dataclasses.dataclass(frozen=True)
class Stage:
  """Describes one stage of a recipe.

  Attributes:
    name: of the stage and of its folder.
    run: the kind of stage, mostly one of `recipes.runners`.
    config: the stage's config, as its own program would take it.
    inputs: config field to what it names: an output of an earlier stage, or a path or name from outside the recipe.
    labels: what people would have had to write for the stage's examples, a name in the recipe's `costs.minutes`; empty
      if nobody writes them.
    rows: config field that names a file to the file's number of rows, for an estimate where the file is not there.
  """

  name: str
  _: dataclasses.KW_ONLY
  run: Runner
  config: ml_collections.ConfigDict
  inputs: Mapping[str, Output | str] = dataclasses.field(default_factory=dict)
  labels: str = ""
  rows: Mapping[str, int] = dataclasses.field(default_factory=dict)

  @property
  def model(self) -> Output:
    """Returns the model that the stage makes.

    Raises:
      InputError: if the stage makes none.
    """
    if not self.run.has_model:
      files = f"its files: {', '.join(self.run.files)}" if self.run.files else "another stage"
      raise InputError(f"stage {self.name}: a stage of {self.run.name} makes no model, expected {files}")
    return Output(self.name)

  def file(self, name: str) -> Output:
    """Returns a file or folder that the stage writes.

    Raises:
      InputError: if the stage writes none of this name.
    """
    if name not in self.run.files:
      known = ", ".join(self.run.files) or "none"
      raise InputError(f"stage {self.name}: a stage of {self.run.name} writes no {name!r}, expected one of: {known}")
    return Output(self.name, name)

  def needs(self) -> list[str]:
    """Returns the names of the stages whose outputs it takes, each once."""
    return list(dict.fromkeys(each.stage for each in self.inputs.values() if isinstance(each, Output)))

  def resolved(self, directory: pathlib.Path) -> ml_collections.ConfigDict:
    """Returns a copy of the config, with the paths of the inputs in it.

    Args:
      directory: the recipe's.

    Raises:
      InputError: if an input names no field of the config, or if one from outside is empty.
    """
    config = self.config.copy_and_resolve_references().unlock()
    for field, given in self.inputs.items():
      if not isinstance(given, Output) and not given:
        raise InputError(f"stage {self.name}: {field} is empty, expected a path or a name")
      section, last = self._field(config, field)
      section[last] = str(given.path(directory)) if isinstance(given, Output) else given
    return config.lock()

  def expected_rows(self, directory: pathlib.Path) -> dict[pathlib.Path, int]:
    """Returns the files of `rows` with their numbers of rows.

    Raises:
      InputError: if `rows` names no field of the config.
    """
    config, found = self.resolved(directory), {}
    for field, count in self.rows.items():
      section, last = self._field(config, field)
      found[pathlib.Path(section[last])] = count
    return found

  def _field(self, config: ml_collections.ConfigDict, name: str) -> tuple[ml_collections.ConfigDict, str]:
    """Returns the group that a field is in, and the field's own name."""
    *groups, last = name.split(".")
    section: Any = config
    for group in groups:
      section = section.get(group, None) if isinstance(section, ml_collections.ConfigDict) else None
    if not isinstance(section, ml_collections.ConfigDict) or last not in section:
      raise InputError(f"stage {self.name}: inputs name {name!r}, which is no field of its config")
    return section, last


def seeded(config: ml_collections.ConfigDict, seed: int) -> ml_collections.ConfigDict:
  """Returns a copy of a stage's config with another seed of its random draws."""
  found = config.copy_and_resolve_references().unlock()
  found.seed = seed
  return found.lock()


def check_stages(stages: Sequence[Stage]) -> None:
  """Checks names, inputs and configs of a recipe's stages; reads no data.

  Raises:
    InputError: if a name is taken or is no folder's, if an input names a stage that does not come before, or if a
      config has a wrong field.
  """
  if not stages:
    raise InputError("recipe: found no stage, expected some")
  known: dict[str, Stage] = {}
  for stage in stages:
    if not _NAME.fullmatch(stage.name) or stage.name in RESERVED:
      raise InputError(f"stage {stage.name!r}: expected letters, digits, - and _, and none of {', '.join(RESERVED)}")
    if stage.name in known:
      raise InputError(f"stage {stage.name}: two stages have this name, expected another one")
    for field, given in stage.inputs.items():
      if isinstance(given, Output):
        if given.stage not in known:
          before = ", ".join(known) or "none"
          raise InputError(
            f"stage {stage.name}: {field} is of an unknown stage {given.stage!r}; before it are: {before}"
          )
        known[given.stage].file(given.file) if given.file else known[given.stage].model
    try:
      stage.run.check(stage.resolved(pathlib.Path("DIR")))
    except InputError as error:
      raise error if str(error).startswith("stage ") else InputError(f"stage {stage.name}: {error}") from None
    known[stage.name] = stage
