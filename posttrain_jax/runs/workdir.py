"""Holds a run's directory.

It admits one run at a time, and one config for all starts of that run.
If a run has several processes, process 0 holds the lock.
"""

import dataclasses
import fcntl
import io
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections

from posttrain_jax import atomic_files
from posttrain_jax.local_path import local_path
from posttrain_jax.parallel.processes import exchange, on_main
from posttrain_jax.runs.starts import record_start
from posttrain_jax.types import InputError

CONFIG_FILE = "config.json"
_LOCK_FILE = "lock"
_DIGESTS = "digests"
# These may differ when a run goes on: its length, its devices, and what only observes it.
_FREE_FIELDS = ("steps", "mesh", "meshes", "memory", "checkpoint", "eval", "logging")
# The last names of fields that hold a path. That of a reward function may be FILE.py:FUNCTION.
_PATH_FIELDS = ("path", "replay", "reward_model", "cache", "function")
_DERIVED = "optimizer.decay_updates"  # a field that may follow from the number of steps, though nobody set it
_ABSENT = object()


@dataclasses.dataclass(frozen=True)
class Workdir:
  """Holds an open run directory, locked until `close`.

  Attributes:
    path: the directory.
    resumed: True if it had a config.json already.
  """

  path: pathlib.Path
  resumed: bool
  _lock: io.TextIOWrapper | None

  @property
  def checkpoints(self) -> pathlib.Path:
    """Returns the directory of the learner's checkpoints."""
    return self.path / "checkpoints"

  @property
  def rollouts(self) -> pathlib.Path:
    """Returns the directory of the sampled records."""
    return self.path / "rollouts"

  @classmethod
  def open(
    cls, path: str | os.PathLike, config: Mapping[str, Any], digests: Mapping[str, str] | None = None
  ) -> "Workdir":
    """Opens DIR for a run: makes it, or checks that it is this run's.

    The field `steps` and the sections `mesh`, `meshes`, `memory`, `checkpoint`, `eval` and `logging` may differ from
    those at the run's start; config.json then takes the new values.

    Args:
      path: DIR. It must be a run's directory, or empty, or not exist yet.
      config: the resolved config as a nested dictionary of JSON values (`settings.as_config`).
      digests: a digest by name for each file that the run reads (data, tokeniser), kept in config.json under `digests`.

    Raises:
      InputError: if another process has DIR open, if DIR holds something else, or if a field differs from the run's
        start or between processes (the first such field is named).
    """
    path = local_path(path, "--workdir").absolute()
    content = _to_json(config, digests or {})
    _refuse_disagreement(content)
    lock = None

    def claim() -> bool:
      nonlocal lock
      try:
        _refuse_foreign(path)
        path.mkdir(parents=True, exist_ok=True)
        lock = _lock(path)
        resumed = (path / CONFIG_FILE).exists()
        if resumed:
          _compare(path / CONFIG_FILE, read_json(path), content)
        atomic_files.write_text(path / CONFIG_FILE, json.dumps(content, indent=2) + "\n")
        for part in ("checkpoints", "rollouts"):
          (path / part).mkdir(exist_ok=True)
        record_start(path)
      except BaseException as error:
        if lock is not None:
          lock.close()
        if isinstance(error, OSError):
          raise InputError(f"--workdir={path}: {error.strerror or error}") from error
        raise
      return resumed

    resumed = on_main(claim)
    return cls(path=path, resumed=resumed, _lock=lock)

  def close(self) -> None:
    """Releases the lock."""
    if self._lock is not None:
      self._lock.close()

  def __enter__(self) -> "Workdir":
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()


def read_json(path: str | os.PathLike) -> dict[str, Any]:
  """Reads the object in a run's config.json, `digests` included.

  Raises:
    InputError: if the file is missing or broken.
  """
  file = local_path(path) / CONFIG_FILE
  try:
    content = json.loads(file.read_text(encoding="utf-8"))
  except FileNotFoundError:
    raise InputError(f"{path}: found no {CONFIG_FILE}, expected the workdir of a run") from None
  except (OSError, ValueError) as error:
    raise InputError(f"{file}: cannot be read ({error}), expected a JSON object") from error
  if not isinstance(content, dict):
    raise InputError(f"{file}: found {type(content).__name__}, expected a JSON object")
  return content


def read_config(path: str | os.PathLike) -> ml_collections.ConfigDict:
  """Reads the resolved config of the run in a workdir.

  Returns:
    The config, locked; sequences are tuples.

  Raises:
    InputError: if config.json is missing or broken.
  """
  content = read_json(path)
  content.pop(_DIGESTS, None)
  return ml_collections.ConfigDict(_tuples(content)).lock()


def _refuse_foreign(path: pathlib.Path) -> None:
  if not path.exists() or (path / CONFIG_FILE).exists():
    return
  if not path.is_dir():
    raise InputError(f"--workdir={path}: found a file, expected a directory")
  ours = {_LOCK_FILE, CONFIG_FILE + ".tmp"}  # left by a start that was killed before it wrote config.json
  others = sorted(entry.name for entry in path.iterdir() if entry.name not in ours)
  if others:
    raise InputError(
      f"--workdir={path}: found {others[0]!r} and no {CONFIG_FILE}, expected an empty directory or a run's workdir"
    )


def _refuse_disagreement(content: dict[str, Any]) -> None:
  """Raises InputError if the processes of one run have different configs or data."""
  first, *others = (_flatten(json.loads(sent)) for sent in exchange(json.dumps(content).encode()))
  for index, other in enumerate(others, 1):
    for name in [*first, *(name for name in other if name not in first)]:
      found, expected = other.get(name, _ABSENT), first.get(name, _ABSENT)
      if not _same_field(name, found, expected):
        raise InputError(
          f"{name}: process {index} has {_show(found)}, process 0 has {_show(expected)}; expected the same"
        )


def _lock(path: pathlib.Path) -> io.TextIOWrapper:
  """Opens the file that holds the lock.

  The system releases the lock when the process ends, also after SIGKILL.
  """
  file = open(path / _LOCK_FILE, "a+", encoding="utf-8")  # noqa: SIM115 (the lock lasts while it is open)
  try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock: a forked verifier would keep that lock
  except OSError:
    file.seek(0)
    holder = file.read().strip() or "unknown"
    file.close()
    raise InputError(
      f"--workdir={path}: in use by another process (pid {holder}), expected one run at a time"
    ) from None
  file.seek(0)
  file.truncate()
  file.write(f"{os.getpid()}\n")
  file.flush()
  return file


def _to_json(config: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, Any]:
  if _DIGESTS in config:
    raise InputError(f"config field {_DIGESTS}: the name is taken by config.json, expected another one")
  return {**_plain(config, ""), _DIGESTS: dict(digests)}


def _plain(value: Any, where: str) -> Any:
  """Converts a value to JSON's types; sequences become lists."""
  if isinstance(value, Mapping):
    return {str(key): _plain(item, f"{where}.{key}".lstrip(".")) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
  if value is None or isinstance(value, (bool, int, float, str)):
    return value
  raise InputError(
    f"config field {where}: found {type(value).__name__}, expected a number, string, bool, None or a group"
  )


def _tuples(value: Any) -> Any:
  if isinstance(value, dict):
    return {key: _tuples(item) for key, item in value.items()}
  return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _flatten(value: Any, name: str = "") -> dict[str, Any]:
  """Maps dotted names to values; an empty section is a value."""
  if not isinstance(value, dict) or not value:
    return {name: value}
  return {key: leaf for part in value for key, leaf in _flatten(value[part], f"{name}.{part}".lstrip(".")).items()}


def _same_field(name: str, a: Any, b: Any) -> bool:
  """Tells whether two values of a field mean the same.

  Two ways to write a path do, such as ~/x and /root/x.
  """
  if _same(a, b):
    return True
  named = isinstance(a, str) and isinstance(b, str) and a and b and name.rpartition(".")[2] in _PATH_FIELDS
  return bool(named) and os.path.abspath(local_path(a, name)) == os.path.abspath(local_path(b, name))


def _same(a: Any, b: Any) -> bool:
  if isinstance(a, list) and isinstance(b, list):
    return len(a) == len(b) and all(map(_same, a, b))
  if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
    return True
  return isinstance(a, bool) == isinstance(b, bool) and a == b  # 1 is 1.0 here, but not True


def _compare(file: pathlib.Path, started: dict[str, Any], now: dict[str, Any]) -> None:
  started, now = _flatten(started), _flatten(now)
  for name in [*now, *(name for name in started if name not in now)]:
    first, *rest = name.split(".")
    if first in _FREE_FIELDS or (first in (_DIGESTS, "warmup") and rest and rest[0] in _FREE_FIELDS[1:]):
      continue
    before, after = started.get(name, _ABSENT), now.get(name, _ABSENT)
    if not _same_field(name, before, after):
      hint = ""
      if name.endswith(_DERIVED):
        hint = f" (0 stands for the run's last update; --config.{name}={_show(before)} keeps the rate's course)"
      raise InputError(f"{file}: {name} was {_show(before)} when the run started, found {_show(after)} now{hint}")


def _show(value: Any) -> str:
  return "absent" if value is _ABSENT else json.dumps(value)
