"""Keeps all that raters did in one file that only grows.

An event is one line of JSON. `append` returns after the line is on disk, and only then is the rater told that it is
saved. So what was saved is there after SIGKILL or a power loss, and what is cut short at the end of the file was never
said to be saved.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from posttrain_jax.runs.appended_rows import AppendedRows
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
    self._rows = AppendedRows(path)
    try:
      self._events = read_events(path)
    except BaseException:
      self._rows.close()
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
    self._rows.append(event)

  def close(self) -> None:
    """Closes the file and lets others open it."""
    self._rows.close()

  def __enter__(self) -> "EventLog":
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()


def read_events(path: pathlib.Path) -> list[dict[str, Any]]:
  """Reads the events that were written whole, also while a server appends to them.

  Raises:
    InputError: if a whole line is no event.
  """
  content = path.read_bytes() if path.exists() else b""
  events = []
  for number, line in enumerate(content.split(b"\n")[:-1], 1):
    try:
      event = json.loads(line)
    except ValueError as error:
      raise InputError(f"{path}:{number}: malformed JSON ({error}), expected an event of a study") from None
    if not isinstance(event, dict):
      raise InputError(f"{path}:{number}: found {type(event).__name__}, expected an event of a study")
    events.append(event)
  return events
