"""Computes what a stage's result depends on, as a digest that is known before anything runs.

It is the sha256 of the stage's kind, its resolved config and its inputs. An output of an earlier stage counts by that
stage's own digest, so a change reaches all stages that depend on it. What comes from outside the recipe counts by the
bytes of its files.
"""

import hashlib
import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from posttrain_jax.assembly.model import is_run, read_config
from posttrain_jax.data import sources
from posttrain_jax.data.prompts import file_digest
from posttrain_jax.learner import checkpoint_folder
from posttrain_jax.learner.manifest import manifest_path
from posttrain_jax.local_path import local_path
from posttrain_jax.models import load
from posttrain_jax.recipes.recipe import Output, Stage
from posttrain_jax.types import InputError

# Fields by whose name a config says what it reads. The value of `function` is MODULE:FUNCTION or FILE.py:FUNCTION.
_READ, _FUNCTIONS = ("path", "measures", "reward_model", "replay"), ("function", "rater")
_DATA = (".jsonl", ".json", ".gz", ".py")
_MODEL = re.compile(r"(model|models\.[^.]+)\.path")
# Groups of fields that change no result.
_FREE = ("logging.", "memory.", "warmup.logging.")


def contents(stages: Sequence[Stage]) -> dict[str, dict[str, Any]]:
  """Returns what each stage's result depends on: stage to dotted name to a JSON value.

  Raises:
    InputError: if a file or a model from outside the recipe is missing or damaged.
  """
  found: dict[str, dict[str, Any]] = {}
  known: dict[str, str] = {}
  for stage in stages:
    config = stage.resolved(pathlib.Path(""))
    content = {"kind": stage.run.name, "source": stage.run.source}
    fields = dict(_flat(config))
    content |= {
      f"config.{name}": value
      for name, value in fields.items()
      if name not in stage.inputs and not name.startswith(_FREE)
    }
    for name, given in stage.inputs.items():
      if isinstance(given, Output):
        content[f"inputs.{name}"] = [digest(found[given.stage]), given.file]
    for name, path in _read(fields, stage.inputs):
      try:
        if _MODEL.fullmatch(name):
          read_config(path)  # any folder has a digest, a model or not
        known[path] = known.get(path) or outside(path)
      except InputError as error:
        raise InputError(f"stage {stage.name}: {name}: {error}") from None
      content[f"inputs.{name}"] = known[path]
    found[stage.name] = content
  return found


def digest(content: Mapping[str, Any]) -> str:
  """Returns the sha256 of what a stage's result depends on."""
  return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
  """Names the first difference between what a stage depended on and depends on; empty without one.

  A change of an earlier stage counts last, since it is named with that stage.
  """
  texts = [{name: json.dumps(value) for name, value in each.items()} for each in (before, now)]  # NaN is equal to NaN
  names = [name for name in dict.fromkeys([*now, *before]) if texts[0].get(name) != texts[1].get(name)]
  for name in sorted(names, key=lambda name: name.startswith("inputs.")):
    if name == "source":
      return "its function has changed"
    if name.startswith("inputs."):
      return f"{name.removeprefix('inputs.')} has changed"
    was, found = (each.get(name, "absent") for each in texts)
    return f"{name.removeprefix('config.')} was {was}, is {found}"
  return ""


def outside(path: str) -> str:
  """Returns the digest of a file, a folder, a run's model or a known model.

  A TFDS data set counts by its name, which has its version.

  Raises:
    InputError: if there is no such thing, or if a run's newest checkpoint is damaged.
  """
  if sources.is_tfds(path):
    return path
  place = local_path(path)
  if not place.exists() and place.suffix in _DATA:
    raise InputError(f"{path}: there is no such file")
  if place.is_dir() and is_run(place):
    _, notes = checkpoint_folder.newest_undamaged(place / "checkpoints")
    if notes:
      raise InputError(f"{path}: {notes[0]}")
  return content_digest(place if place.exists() else load.resolve(path))


def content_digest(place: pathlib.Path) -> str:
  """Returns the sha256 of a file, or of what a folder holds.

  Of a workdir with a model it is that of the newest checkpoint's manifest, which has the digests of all its files.

  Raises:
    InputError: if it does not exist, or if a workdir has no finished checkpoint.
  """
  if not place.is_dir():
    return file_digest(place)
  if is_run(place):
    steps = checkpoint_folder.finished_steps(place / "checkpoints")
    if not steps:
      raise InputError(f"{place}: found no finished checkpoint, expected the workdir of a run that saved one")
    files = [place / "model.json", manifest_path(place / "checkpoints", steps[-1])]
  else:
    files = sorted(file for file in place.rglob("*") if file.is_file())
  named = [f"{file.relative_to(place).as_posix()} {file_digest(file)}" for file in files]
  return hashlib.sha256("\n".join(named).encode()).hexdigest()


def _read(fields: Mapping[str, Any], inputs: Mapping[str, Output | str]) -> Iterator[tuple[str, str]]:
  """Yields (field, path) of what a config reads from outside the recipe."""
  for name, value in fields.items():
    if not isinstance(value, str) or not value or isinstance(inputs.get(name), Output):
      continue
    last = name.rpartition(".")[2]
    if last in _FUNCTIONS:
      file, _, function = value.rpartition(":")
      if function and file.endswith(".py"):
        yield name, file
    elif last in _READ or name in inputs:
      yield name, value


def _flat(section: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
  """Yields (dotted name, JSON value) of each field; an empty group is a value."""
  for name, value in section.items():
    if isinstance(value, ConfigDict | Mapping) and len(value):
      yield from _flat(value, f"{prefix}{name}.")
    elif isinstance(value, ConfigDict | Mapping):
      yield f"{prefix}{name}", {}
    else:
      yield f"{prefix}{name}", json.loads(json.dumps(value))
