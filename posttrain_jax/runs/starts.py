"""Records each start of a run: date, command, commit, versions, devices.

None of it can be the same in two runs, so it stands in a file of its own, `starts.jsonl`, with one line a start.
"""

import datetime
import importlib.metadata
import json
import pathlib
import platform
import shlex
import subprocess
import sys
from typing import Any

from posttrain_jax.runs.start_line import devices

STARTS_FILE = "starts.jsonl"
_PACKAGES = ("posttrain_jax", "jax", "jaxlib", "libtpu", "flax", "optax", "numpy")


def record_start(workdir: pathlib.Path) -> None:
  """Appends a line about this process to a workdir's starts.jsonl."""
  start = {
    "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "command": command(),
    "commit": commit(),
    "versions": versions(),
    "devices": devices(),
  }
  with open(workdir / STARTS_FILE, "a", encoding="utf-8") as file:
    file.write(json.dumps(start) + "\n")


def read_starts(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """Reads the starts of a run, the first one first.

  A line that cannot be read is left out, and a field that is missing is empty.
  """
  try:
    lines = (workdir / STARTS_FILE).read_text("utf-8", errors="replace").splitlines()
  except OSError:
    return []
  found = []
  for line in lines:
    try:
      start = json.loads(line)
    except ValueError:
      continue
    if isinstance(start, dict):
      found.append({"date": "", "command": "", "commit": "", "versions": {}, "devices": ""} | start)
  return found


def command() -> str:
  """Returns this process's command as it would be typed."""
  program, *arguments = sys.orig_argv
  return shlex.join([pathlib.Path(program).name, *arguments])


def commit() -> str:
  """Returns the commit of the checkout that this package is in; empty outside of one.

  A "+" at its end says that tracked files differ from it.
  """
  folder = pathlib.Path(__file__).parent

  def git(*arguments: str) -> str:
    return subprocess.run(
      ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()

  try:
    git("ls-files", "--error-unmatch", __file__)  # not a checkout of something else around an installed package
    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "HEAD") + ("+" if changed else "")
  except (OSError, subprocess.SubprocessError):
    return ""


def versions() -> dict[str, str]:
  """Maps Python and the packages that numbers depend on to their versions.

  Absent packages are left out.
  """
  found = {"python": platform.python_version()}
  for name in _PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found
