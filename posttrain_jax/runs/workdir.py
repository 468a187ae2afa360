"""A run's directory: one run at a time, one config for good. Of several processes it is the first that holds it."""

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
from posttrain_jax.parallel.processes import exchange, on_main
from posttrain_jax.types import InputError

CONFIG_FILE = "config.json"
_LOCK_FILE = "lock"
_DIGESTS = "digests"
# What may differ when a run goes on: how long, on which devices, and what only looks at the run.
_FREE_FIELDS = ("steps", "mesh", "meshes", "memory", "checkpoint", "eval", "logging")
_ABSENT = object()


@dataclasses.dataclass(frozen=True)
class Workdir:
  """An open run directory, locked until `close`.

  Attributes:
    path: the directory.
    resumed: whether it had a config.json already.
  """

  path: pathlib.Path
  resumed: bool
  _lock: io.TextIOWrapper | None

  @property
  def checkpoints(self) -> pathlib.Path:
    """Where the learner's checkpoints are."""
    return self.path / "checkpoints"

  @property
  def rollouts(self) -> pathlib.Path:
    """Where the sampled records are."""
    return self.path / "rollouts"

  @classmethod
  def open(
    cls, path: str | os.PathLike, config: Mapping[str, Any], digests: Mapping[str, str] | None = None
  ) -> "Workdir":
    """Opens DIR for a run with this config: makes it, or checks that it belongs to the same run.

    `steps` and the groups `mesh`, `meshes`, `memory`, `checkpoint`, `eval` and `logging` may differ from the run's
    start; config.json then takes the new values.

    Args:
      path: DIR. It must not exist, be empty, or be a run's directory.
      config: the resolved config as a nested dictionary of JSON values (`settings.as_config`).
      digests: name → digest of each file that the run reads (data, tokeniser), kept in config.json under `digests`.

    Raises:
      InputError: another run has DIR open, DIR holds something else, or a field differs (the first one is named), from
        the run's start or between processes.
    """
    path = pathlib.Path(path).absolute()
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
    """Gives the lock back."""
    if self._lock is not None:
      self._lock.close()

  def __enter__(self) -> "Workdir":
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()


def read_json(path: str | os.PathLike) -> dict[str, Any]:
  """The object in a run's config.json, `digests` included; InputError where it is missing or broken."""
  file = pathlib.Path(path) / CONFIG_FILE
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
  """The resolved config of the run in a workdir, locked; sequences are tuples. InputError as in `read_json`."""
  content = read_json(path)
  content.pop(_DIGESTS, None)
  return ml_collections.ConfigDict(_tuples(content)).lock()


def _refuse_foreign(path: pathlib.Path) -> None:
  if not path.exists() or (path / CONFIG_FILE).exists():
    return
  if not path.is_dir():
    raise InputError(f"--workdir={path}: found a file, expected a directory")
  ours = {_LOCK_FILE, CONFIG_FILE + ".tmp"}  # a start that was killed before config.json was there
  others = sorted(entry.name for entry in path.iterdir() if entry.name not in ours)
  if others:
    raise InputError(
      f"--workdir={path}: found {others[0]!r} and no {CONFIG_FILE}, expected an empty directory or a run's workdir"
    )


def _refuse_disagreement(content: dict[str, Any]) -> None:
  """Raises InputError where the processes of one run were started with different configs or read different data."""
  first, *others = (_flatten(json.loads(sent)) for sent in exchange(json.dumps(content).encode()))
  for index, other in enumerate(others, 1):
    for name in [*first, *(name for name in other if name not in first)]:
      found, expected = other.get(name, _ABSENT), first.get(name, _ABSENT)
      if not _same(found, expected):
        raise InputError(
          f"{name}: process {index} has {_show(found)}, process 0 has {_show(expected)}; expected the same"
        )


def _lock(path: pathlib.Path) -> io.TextIOWrapper:
  """An open file that holds the lock; the system releases it when the process ends, however it ends."""
  file = open(path / _LOCK_FILE, "a+", encoding="utf-8")  # noqa: SIM115 (the lock lasts while it is open)
  try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock, which a forked verifier would keep held
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
  """The value in JSON's types: sequences are lists."""
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
  """Dotted name → value; an empty group is a value."""
  if not isinstance(value, dict) or not value:
    return {name: value}
  return {key: leaf for part in value for key, leaf in _flatten(value[part], f"{name}.{part}".lstrip(".")).items()}


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
    if not _same(before, after):
      raise InputError(f"{file}: {name} was {_show(before)} when the run started, found {_show(after)} now")


def _show(value: Any) -> str:
  return "absent" if value is _ABSENT else json.dumps(value)
