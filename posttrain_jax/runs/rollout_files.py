"""Names the files under rollouts/, and finds those of a run among others.

`step_000012.jsonl` has the sampled records of step 12, `step_000012.groups.safetensors.gz` its groups for a replay.
"""

import pathlib
import re

SAMPLES_SUFFIX = ".jsonl"
GROUPS_SUFFIX = ".groups.safetensors.gz"
_NAME = re.compile(rf"step_([0-9]+)({re.escape(SAMPLES_SUFFIX)}|{re.escape(GROUPS_SUFFIX)})(\.tmp)?")


def file_name(step: int, suffix: str) -> str:
  """Returns the name of a step's file."""
  return f"step_{step:06d}{suffix}"


def find(directory: pathlib.Path, suffix: str) -> list[tuple[int, pathlib.Path]]:
  """Lists the steps that have a file with a suffix, in ascending order.

  The directory may be missing.
  """
  named = ((_NAME.fullmatch(path.name), path) for path in _entries(directory))
  return sorted((int(name[1]), path) for name, path in named if name and name[2] == suffix and not name[3])


def cut_back(directory: pathlib.Path, step: int) -> list[str]:
  """Deletes the files of steps after `step`, and unfinished ones.

  Returns:
    The names that are none of a run's. They are left alone; a directory with the name of a file gets another name.
  """
  strays = []
  for path in sorted(directory.iterdir()):
    name = _NAME.fullmatch(path.name)
    if name is None:
      strays.append(path.name)
    elif path.is_dir():
      strays.append(path.name)
      _rename(path)
    elif name[3] or int(name[1]) > step:
      path.unlink()
  return strays


def _rename(path: pathlib.Path) -> None:
  """Gives a directory the first free name of NAME.aside, NAME.aside-2, ..."""
  aside, count = path.with_name(f"{path.name}.aside"), 1
  while aside.exists():
    count += 1
    aside = path.with_name(f"{path.name}.aside-{count}")
  path.rename(aside)


def _entries(directory: pathlib.Path) -> list[pathlib.Path]:
  return [path for path in directory.iterdir() if path.is_file()] if directory.is_dir() else []
