"""Times repeated calls; the first one, which compiles, is kept apart from the others."""

import contextlib
import dataclasses
import resource
import sys
import time
from collections.abc import Callable

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Timed:
  """Holds the seconds of repeated calls.

  Attributes:
    first: seconds of the first call, with compilation.
    later: seconds of each later call.
  """

  first: float
  later: tuple[float, ...]

  @property
  def median(self) -> float:
    """Returns the median of the later calls."""
    return float(np.median(self.later))

  def record(self) -> dict[str, float]:
    """Returns rounded numbers for a JSON line."""
    return {
      "seconds": round(self.median, 6),
      "fastest_seconds": round(min(self.later), 6),
      "slowest_seconds": round(max(self.later), 6),
      "first_call_seconds": round(self.first, 3),
      "runs": len(self.later),
    }


def timed(work: Callable[[int], object], runs: int, profile: str | None = None) -> Timed:
  """Times `work(0)`, then `work(1)` to `work(runs)`.

  A call ends when the arrays that it returns are ready.

  Args:
    work: takes the number of the call, from 0.
    runs: calls after the first.
    profile: directory for a trace of the last call; None for no trace.
  """
  seconds = []
  for run in range(runs + 1):
    trace = jax.profiler.trace(profile) if profile and run == runs else contextlib.nullcontext()
    with trace:
      start = time.perf_counter()
      jax.block_until_ready(work(run))
      seconds.append(time.perf_counter() - start)
  return Timed(seconds[0], tuple(seconds[1:]))


def peak_memory_gib() -> float:
  """Returns the first device's peak memory, or the process's if the device reports none."""
  stats = jax.devices()[0].memory_stats()
  if stats and "peak_bytes_in_use" in stats:
    return round(stats["peak_bytes_in_use"] / 2**30, 2)
  unit = 1 if sys.platform == "darwin" else 2**10  # of ru_maxrss
  return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 2)


def rounded(number: float) -> float:
  """Rounds to four significant digits."""
  return float(f"{number:.4g}")
