"""Keeps Orbax from printing failures that it also raises.

When a write fails, Orbax raises the exception where one waits for it. Besides, each of its threads logs the traceback,
and TensorStore's threads print that the event loop of a failed save is closed: hundreds of lines that say no more.
"""

import functools
import pathlib
import sys
from logging import LogRecord
from types import TracebackType

from absl import logging


@functools.cache
def quieten() -> None:
  """Leaves those lines out, from now on."""
  logging.get_absl_logger().addFilter(_is_told_once)
  previous = sys.excepthook

  def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not _is_of_closed_loop(error):
      previous(kind, error, trace)

  sys.excepthook = hook


def _is_told_once(record: LogRecord) -> bool:
  """Tells a log record from the traceback of one of Orbax's threads."""
  return not (record.exc_info and "orbax" in pathlib.PurePath(record.pathname).parts)


def _is_of_closed_loop(error: BaseException) -> bool:
  """Recognises the complaint about a result after the event loop was closed."""
  return isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
