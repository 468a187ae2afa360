"""Appends rows to a JSONL file that must survive SIGKILL.

A row is one write, and on disk when `append` returns. A line that a kill or a power loss cut short has no line end; it
was never said to be written, so the next opening cuts it off.
"""

import fcntl
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from posttrain_jax.runs.disk_failure import DiskFailure
from posttrain_jax.types import InputError


class AppendedRows:
  """Holds a JSONL file open to append to; no other process may at the same time."""

  def __init__(self, path: pathlib.Path):
    """Opens or makes the file, and cuts off a line that was not written whole.

    Args:
      path: of the file, whose directory exists.

    Raises:
      InputError: if the file cannot be opened, or if another process has it open.
    """
    self._path = path
    try:
      self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
      raise InputError(f"{path}: {error.strerror}, expected a file to append to") from None
    try:
      try:
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released when the process ends, whatever ends it
      except OSError:
        raise InputError(f"{path}: in use by another process, expected one at a time") from None
      self._size = _whole_lines(self._file)
      os.ftruncate(self._file, self._size)
      os.fsync(self._file)
      _sync_directory(path.parent)
    except BaseException:
      os.close(self._file)
      raise

  def append(self, row: Mapping[str, Any]) -> None:
    """Writes a row and waits until it is on disk.

    Raises:
      DiskFailure: if it cannot be written. Nothing of it is left in the file then.
    """
    line = json.dumps(row, allow_nan=False).encode() + b"\n"
    try:
      if os.write(self._file, line) != len(line):
        raise OSError("the disk took a part of the row only")
      os.fsync(self._file)
    except OSError as error:
      os.ftruncate(self._file, self._size)
      raise DiskFailure(f"{self._path}: {error.strerror or error}") from error
    self._size += len(line)

  def close(self) -> None:
    """Closes the file and lets others open it."""
    os.close(self._file)

  def __enter__(self) -> "AppendedRows":
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()


_BLOCK = 1 << 16


def _whole_lines(file: int) -> int:
  """Returns the number of bytes up to the last line end."""
  end = os.fstat(file).st_size
  while end:
    start = max(0, end - _BLOCK)
    found = os.pread(file, end - start, start).rfind(b"\n")
    if found >= 0:
      return start + found + 1
    end = start
  return 0


def _sync_directory(path: pathlib.Path) -> None:
  directory = os.open(path, os.O_RDONLY)
  try:
    os.fsync(directory)  # puts the new name on disk
  finally:
    os.close(directory)
