"""Keeps all that raters did in one file that only grows.

An event is one line of JSON. `append` returns after the line is on disk, and only then is the rater told that it is
saved. So what was saved is there after SIGKILL or a power loss, and what is cut short at the end of the file was never
said to be saved.
"""

import fcntl
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from posttrain_jax.runs.disk_failure import DiskFailure
from posttrain_jax.types import InputError


class EventLog:
  """Appends events to a file that no other process may append to."""

  def __init__(self, path: pathlib.Path):
    """Opens or makes the file, and cuts off an event that was not written whole.

    Args:
      path: of the file, whose directory exists.

    Raises:
      InputError: if another process has it open, or if a whole line is no event.
    """
    self._path = path
    self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
      try:
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released when the process ends, also after SIGKILL
      except OSError:
        raise InputError(f"{path}: in use by another process, expected one server of a study") from None
      self._events, self._size = _read(path)
      os.ftruncate(self._file, self._size)
      os.fsync(self._file)
      _sync_directory(path.parent)
    except BaseException:
      os.close(self._file)
      raise

  @property
  def events(self) -> list[dict[str, Any]]:
    """Returns the events that were there when the file was opened."""
    return list(self._events)

  def append(self, event: Mapping[str, Any]) -> None:
    """Writes an event and waits until it is on disk.

    Raises:
      DiskFailure: if it cannot be written. Nothing of it is left in the file then.
    """
    line = json.dumps(event, allow_nan=False).encode() + b"\n"
    try:
      if os.write(self._file, line) != len(line):
        raise OSError("the disk took a part of the event only")
      os.fsync(self._file)
    except OSError as error:
      os.ftruncate(self._file, self._size)
      raise DiskFailure(f"{self._path}: {error.strerror or error}") from error
    self._size += len(line)

  def close(self) -> None:
    """Closes the file and lets others open it."""
    os.close(self._file)

  def __enter__(self) -> "EventLog":
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()


def read_events(path: pathlib.Path) -> list[dict[str, Any]]:
  """Reads the events that were written whole, also while a server appends to them.

  Raises:
    InputError: if a whole line is no event.
  """
  return _read(path)[0] if path.exists() else []


def _read(path: pathlib.Path) -> tuple[list[dict[str, Any]], int]:
  """Returns the whole events and the number of their bytes."""
  content = path.read_bytes()
  size = content.rfind(b"\n") + 1
  events = []
  for number, line in enumerate(content[:size].split(b"\n")[:-1], 1):
    try:
      event = json.loads(line)
    except ValueError as error:
      raise InputError(f"{path}:{number}: malformed JSON ({error}), expected an event of a study") from None
    if not isinstance(event, dict):
      raise InputError(f"{path}:{number}: found {type(event).__name__}, expected an event of a study")
    events.append(event)
  return events, size


def _sync_directory(path: pathlib.Path) -> None:
  directory = os.open(path, os.O_RDONLY)
  try:
    os.fsync(directory)  # puts the new name on disk
  finally:
    os.close(directory)
