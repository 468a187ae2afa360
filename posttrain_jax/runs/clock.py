"""Where a step's wall time goes: named phases that may nest, each counted without what is inside it.

What other threads do meanwhile takes no time of the step's, and is not counted.
"""

import contextlib
import threading
import time
from collections.abc import Iterator


class Clock:
  """Adds up seconds by phase until they are taken."""

  def __init__(self):
    self._seconds: dict[str, float] = {}
    self._inside: list[float] = []  # per open phase, seconds spent in phases within it
    self._start = time.perf_counter()
    self._thread = threading.get_ident()

  @contextlib.contextmanager
  def phase(self, name: str) -> Iterator[None]:
    """Counts what happens in the `with` block as `time/<name>`, on the thread that made the clock."""
    if threading.get_ident() != self._thread:
      yield
      return
    start = time.perf_counter()
    self._inside.append(0.0)
    try:
      yield
    finally:
      elapsed = time.perf_counter() - start
      self._seconds[name] = self._seconds.get(name, 0.0) + elapsed - self._inside.pop()
      if self._inside:
        self._inside[-1] += elapsed

  def take(self) -> dict[str, float]:
    """Seconds of each phase and `time/total` since the last call."""
    now = time.perf_counter()
    taken = {f"time/{name}": seconds for name, seconds in self._seconds.items()} | {"time/total": now - self._start}
    self._seconds, self._start = {}, now
    return taken
