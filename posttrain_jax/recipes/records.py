"""Keeps a stage's record, STAGE.stage.json beside its folder.

It is written when the stage starts and again when it ends. It says what the stage's result depends on and, at the end,
the digests of what it made.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from posttrain_jax import atomic_files
from posttrain_jax.learner import checkpoint_folder
from posttrain_jax.recipes import digests
from posttrain_jax.recipes.recipe import Output, Stage
from posttrain_jax.types import InputError

_SUFFIX = ".stage.json"
_MODEL = "model"  # the name of a model among a record's outputs


@dataclasses.dataclass(frozen=True)
class StageRecord:
  """Holds what is kept of a stage.

  Attributes:
    content: what its result depends on (`digests.contents`).
    finished: whether it has ended.
    seconds: that all starts took which ended, by a finish or on request.
    outputs: name of each file or folder that it wrote, or "model", to its sha256; empty before the end.
    metrics: what its runner returned.
    estimate: its work as it was estimated before the first start, as `Effort.to_json`.
    effort: its work as it was counted; empty before the end.
  """

  content: Mapping[str, Any]
  finished: bool = False
  seconds: float = 0.0
  outputs: Mapping[str, str] = dataclasses.field(default_factory=dict)
  metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  estimate: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  effort: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def stages(directory: pathlib.Path) -> list[str]:
  """Returns the names of the stages that have a record, in the order of writing."""
  files = sorted(directory.glob(f"*{_SUFFIX}"), key=lambda file: (file.stat().st_mtime_ns, file.name))
  return [file.name.removesuffix(_SUFFIX) for file in files]


def read(directory: pathlib.Path, stage: str) -> StageRecord | None:
  """Reads a stage's record; None if it has never been started.

  Raises:
    InputError: if the file is broken.
  """
  file = _file(directory, stage)
  try:
    return StageRecord(**json.loads(file.read_text("utf-8")))
  except FileNotFoundError:
    return None
  except (OSError, ValueError, TypeError) as error:
    raise InputError(f"{file}: cannot be read ({error}); remove it, and the stage runs again") from None


def write(directory: pathlib.Path, stage: str, record: StageRecord) -> None:
  """Writes or replaces a stage's record."""
  atomic_files.write_text(_file(directory, stage), json.dumps(dataclasses.asdict(record), indent=2) + "\n")


def outputs(directory: pathlib.Path, stage: Stage) -> dict[str, str]:
  """Returns the sha256 of each thing that a stage wrote, by its name.

  Raises:
    InputError: if its model is missing.
  """
  found = {_MODEL: digests.content_digest(directory / stage.name)} if stage.run.has_model else {}
  places = {name: directory / stage.name / name for name in stage.run.files}
  return found | {name: digests.content_digest(place) for name, place in places.items() if place.exists()}


def check_outputs(directory: pathlib.Path, stage: Stage, record: StageRecord, *, whole_model: bool) -> None:
  """Checks that all that a finished stage wrote is there and unchanged.

  Args:
    directory: the recipe's.
    stage: a finished one.
    record: its record.
    whole_model: whether the model's files are read, too, and not only their manifest.

  Raises:
    InputError: if something is missing or changed; the message names it.
  """
  for name, expected in record.outputs.items():
    place = Output(stage.name, "" if name == _MODEL else name).path(directory)
    advice = f"restore it, or remove {_file(directory, stage.name)}, and the stage runs again"
    if not place.exists():
      raise InputError(f"{place}: is missing, stage {stage.name} wrote it; {advice}")
    try:
      changed = digests.content_digest(place) != expected
      if name == _MODEL and not changed and whole_model:
        _, notes = checkpoint_folder.newest_undamaged(place / "checkpoints")
        changed = bool(notes)
    except InputError as error:
      raise InputError(f"stage {stage.name}: {error}; {advice}") from None
    if changed:
      raise InputError(f"{place}: is not what stage {stage.name} wrote (sha256 differs); {advice}")


def put_aside(directory: pathlib.Path, stage: str) -> pathlib.Path | None:
  """Moves a stage's folder and record to the first free replaced/STAGE-N.

  The record goes last: a kill in between leaves a record without a folder, and the stage runs again.

  Returns:
    Where the folder is now; None if there was nothing.
  """
  folder, file = directory / stage, _file(directory, stage)
  if not folder.exists():
    file.unlink(missing_ok=True)
    return None
  replaced, count = directory / "replaced", 1
  replaced.mkdir(exist_ok=True)
  while (replaced / f"{stage}-{count}").exists():
    count += 1
  aside = replaced / f"{stage}-{count}"
  os.rename(folder, aside)
  if file.exists():
    os.rename(file, _file(replaced, aside.name))
  return aside


def _file(directory: pathlib.Path, stage: str) -> pathlib.Path:
  return directory / f"{stage}{_SUFFIX}"
