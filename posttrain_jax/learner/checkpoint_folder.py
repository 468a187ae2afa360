"""Tells what is in a directory of checkpoints, sets steps aside and deletes them.

Step 12 is the directory `12` with its manifest beside it (`manifest.py`). While it is written or deleted, an empty file
`12.unfinished` stands beside it. So whenever a process is killed, and whatever a copy leaves out, these can be told
apart:

- finished: there is a manifest, which says whether the files are good;
- unfinished: no manifest, but the mark. It is the leftover of a killed process and may be deleted;
- lost: neither. It may be a good checkpoint whose manifest was lost, so it is never deleted, only set aside.

`12.damaged`, `12.damaged-2`, ... are steps that were set aside. All other names are strays: they are left alone.
"""

import pathlib
import re
import shutil
from collections.abc import Callable

from absl import logging

from posttrain_jax.learner.manifest import damage, manifest_path
from posttrain_jax.types import InputError

_NUMBER = r"(0|[1-9][0-9]*)"
_STEP = re.compile(_NUMBER)
_MANIFEST = re.compile(_NUMBER + r"\.manifest\.json")
_MARK = re.compile(_NUMBER + r"\.unfinished")
_TEMPORARY = re.compile(_NUMBER + r"(\.orbax-checkpoint-tmp.*|\.manifest\.json\.tmp)")
_SET_ASIDE = re.compile(_NUMBER + r"\.damaged(-[0-9]+)?(\.manifest\.json)?")
# Names in the directory of a step that Orbax wrote, one of which is enough to take it for a checkpoint.
_PARTS = ("state", "extra", "_CHECKPOINT_METADATA")


def finished_steps(directory: pathlib.Path) -> list[int]:
  """Lists the steps that have a manifest, in ascending order, without checking their files."""
  return _steps(directory, _MANIFEST, _is_file)


def lost_steps(directory: pathlib.Path) -> list[int]:
  """Lists the steps that have files, but neither manifest nor mark."""
  steps = _steps(directory, _STEP, _is_checkpoint)  # first: a run that is still saving may add one
  known = {*finished_steps(directory), *_steps(directory, _MARK, _is_file)}
  return [step for step in steps if step not in known]


def set_aside_steps(directory: pathlib.Path) -> list[pathlib.Path]:
  """Lists the directories that were set aside as damaged."""
  return [path for path in _entries(directory) if _SET_ASIDE.fullmatch(path.name) and _is_checkpoint(path)]


def choose_step(directory: pathlib.Path, step: int | None = None) -> tuple[int | None, list[str]]:
  """Finds the step to read, and checks its files.

  Args:
    directory: the checkpoints of a run.
    step: which step; None: the newest undamaged one.

  Returns:
    As `newest_undamaged`.

  Raises:
    InputError: if the step asked for is missing or damaged, or if there are steps and none is undamaged.
  """
  if step is None:
    return newest_undamaged(directory)
  steps = finished_steps(directory)
  if step not in steps:
    raise InputError(f"checkpoint {directory}: step {step} is not there, expected one of {steps}")
  found = damage(directory, step)
  if found is not None:
    raise InputError(f"checkpoint {directory / str(step)} is damaged: {found}; expected its files as they were written")
  return step, []


def newest_undamaged(directory: pathlib.Path) -> tuple[int | None, list[str]]:
  """Finds the newest step whose files agree with its manifest; a warning names each newer one.

  Returns:
    (the step, the warnings); the step is None if there never was one.

  Raises:
    InputError: if there are steps, or steps that were set aside, and none is undamaged.
  """
  notes = []
  for step in sorted(finished_steps(directory) + lost_steps(directory), reverse=True):
    found = damage(directory, step)
    if found is None:
      notes += [f"fell back to step {step}"] if notes else []
      break
    notes.append(f"checkpoint {directory / str(step)} is damaged: {found}")
  else:
    notes += [f"checkpoint {path} was set aside as damaged" for path in set_aside_steps(directory)]
    if notes:
      raise InputError(
        f"{notes[0]}; no undamaged step is left in {directory}, expected one that agrees with its manifest: restore "
        "its files and N.manifest.json from a copy, or train in another --workdir"
      )
    return None, []
  for note in notes:
    logging.warning("%s", note)
  return step, notes


def strays(directory: pathlib.Path) -> list[str]:
  """Lists the names that have nothing to do with checkpoints."""
  expected = {_STEP: _is_checkpoint, _MANIFEST: _is_file, _MARK: _is_file}
  expected |= dict.fromkeys((_TEMPORARY, _SET_ASIDE), lambda path: True)
  unfinished = set(_steps(directory, _MARK, _is_file))

  def is_stray(path: pathlib.Path) -> bool:
    for pattern, is_expected in expected.items():
      if pattern.fullmatch(path.name):
        return not is_expected(path) and not (pattern is _STEP and int(path.name) in unfinished)
    return True

  return [path.name for path in _entries(directory) if is_stray(path)]


def mark_unfinished(directory: pathlib.Path, step: int) -> None:
  """Marks a step whose files are about to be written or deleted."""
  _mark(directory, step).touch()


def mark_finished(directory: pathlib.Path, step: int) -> None:
  """Removes the mark of `mark_unfinished`."""
  _mark(directory, step).unlink(missing_ok=True)


def delete(directory: pathlib.Path, step: int) -> None:
  """Deletes a step, so that a kill at any moment leaves it finished or unfinished."""
  mark_unfinished(directory, step)
  manifest_path(directory, step).unlink(missing_ok=True)
  _remove(directory / str(step))
  mark_finished(directory, step)


def remove_unfinished(directory: pathlib.Path) -> list[str]:
  """Removes what a killed process left of steps that it was writing or deleting.

  Returns:
    The names of what was removed, without those of files that are written first and then renamed.
  """
  finished, removed = finished_steps(directory), []
  for path in _entries(directory):
    if _TEMPORARY.fullmatch(path.name):
      removed += [path.name] if path.is_dir() else []
      _remove(path)
  for step in _steps(directory, _MARK, _is_file):
    if step not in finished:
      removed += [str(step)] if (directory / str(step)).exists() else []
      _remove(directory / str(step))
    mark_finished(directory, step)
  return removed


def set_aside(directory: pathlib.Path, step: int) -> pathlib.Path | None:
  """Renames whatever has a step's name, and its manifest, to the first free `N.damaged`.

  Returns:
    The new path of the step's files; None if there were none.
  """
  files, manifest = directory / str(step), manifest_path(directory, step)
  aside, count = directory / f"{step}.damaged", 1
  while aside.exists() or manifest_path(directory, aside.name).exists():
    count += 1
    aside = directory / f"{step}.damaged-{count}"
  if manifest.exists():
    manifest.rename(manifest_path(directory, aside.name))
  if not files.exists():
    return None
  files.rename(aside)
  return aside


def _entries(directory: pathlib.Path) -> list[pathlib.Path]:
  """Lists a directory in the order of names; it may be missing.

  Raises:
    InputError: if it cannot be read.
  """
  try:
    return sorted(directory.iterdir())
  except FileNotFoundError:
    return []
  except OSError as error:
    raise InputError(f"checkpoints {directory}: cannot be listed ({error.strerror}), expected a directory") from None


def _steps(directory: pathlib.Path, pattern: re.Pattern, is_expected: Callable[[pathlib.Path], bool]) -> list[int]:
  matches = ((pattern.fullmatch(path.name), path) for path in _entries(directory))
  return sorted(int(match[1]) for match, path in matches if match and is_expected(path))


def _is_file(path: pathlib.Path) -> bool:
  try:
    return path.is_file()
  except OSError:  # it is there, but its kind cannot be read
    return True


def _is_checkpoint(path: pathlib.Path) -> bool:
  try:
    return path.is_dir() and any((path / part).exists() for part in _PARTS)
  except OSError:  # what cannot be looked at may be a good checkpoint
    return True


def _mark(directory: pathlib.Path, step: int) -> pathlib.Path:
  return directory / f"{step}.unfinished"


def _remove(path: pathlib.Path) -> None:
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)
