"""Holds work that a worker process can load, for tests of workers."""

import dataclasses
import os
import time


@dataclasses.dataclass(frozen=True)
class Slow:
  """Takes its time, and names the process that works."""

  seconds: float

  def __call__(self, _) -> int:
    time.sleep(self.seconds)
    return os.getpid()
