"""Measures a step's wall time by named phases.

Phases may nest; the time of an inner phase is not counted for the outer one. Work on other threads is not counted: it
runs at the same time as the step.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence


class Clock:
  """Adds up seconds by phase until `take` returns them.

  Attributes:
    on_change: called with the names of the open phases, the outermost first, whenever one begins or ends; None for no
      call.
  """

  def __init__(self):
    self.on_change: Callable[[Sequence[str]], None] | None = None
    self._open: list[str] = []
    self._seconds: dict[str, float] = {}
    self._inside: list[float] = []  # for each open phase, seconds spent in phases within it
    self._start = time.perf_counter()
    self._thread = threading.get_ident()

  @contextlib.contextmanager
  def phase(self, name: str) -> Iterator[None]:
    """Counts the time of the `with` block as `time/<name>`.

    On another thread than the one that made the clock, nothing is counted.
    """
    if threading.get_ident() != self._thread:
      yield
      return
    start = time.perf_counter()
    self._inside.append(0.0)
    self._open.append(name)
    self._tell()
    try:
      yield
    finally:
      elapsed = time.perf_counter() - start
      self._seconds[name] = self._seconds.get(name, 0.0) + elapsed - self._inside.pop()
      if self._inside:
        self._inside[-1] += elapsed
      self._open.pop()
      self._tell()

  def _tell(self) -> None:
    if self.on_change is not None:
      self.on_change(tuple(self._open))

  def take(self) -> dict[str, float]:
    """Returns the seconds of each phase and `time/total` since the last call."""
    now = time.perf_counter()
    taken = {f"time/{name}": seconds for name, seconds in self._seconds.items()} | {"time/total": now - self._start}
    self._seconds, self._start = {}, now
    return taken
