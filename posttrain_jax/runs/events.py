"""Writes TensorBoard's event files.

tensorboardX has the format of records. Its own writer works on another thread, which would die of a full disk unheard:
here every write happens, and fails, where it is asked for.
"""

import os
import pathlib
import socket
import time

from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter


class Events:
  """Appends scalars to one event file."""

  def __init__(self, directory: pathlib.Path, first_step: int):
    """Starts an event file.

    Args:
      directory: gets the file; made if it is missing.
      first_step: TensorBoard drops this step and later ones from earlier files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # File names count whole seconds: the process and the step keep a quick restart from overwriting.
    name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}.{first_step}"
    self._file = RecordWriter(str(directory / name))
    self._add(Event(file_version="brain.Event:2"))
    self._add(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

  def add(self, step: int, name: str, value: float) -> None:
    """Appends one value."""
    self._add(Event(step=step, summary=summary.scalar(name, value)))

  def flush(self) -> None:
    """Returns once everything is on disk."""
    self._file.flush()

  def close(self) -> None:
    """Closes the file."""
    self._file.close()

  def _add(self, event: Event) -> None:
    event.wall_time = time.time()
    self._file.write(event.SerializeToString())
