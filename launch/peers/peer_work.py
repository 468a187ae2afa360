"""Parses, times and measures the work of the peers' scripts.

It needs NumPy only, because each peer has its own virtual environment.
"""

import argparse
import resource
import time

import numpy as np


def asked():
  """Parses the command line.

  Names and defaults are those of `experiments.benchmark`. `runs` is the number of timed calls.
  """
  parser = argparse.ArgumentParser()
  for name, default in dict(prompts=8, group=8, prompt_length=64, new_tokens=128, runs=3).items():
    parser.add_argument(f"--{name}", type=int, default=default)
  return parser.parse_args()


def timed(work, runs):
  """Times the first call of `work` and `runs` further calls.

  Args:
    work: takes the number of the call, from 0, and returns when the work is done.
    runs: number of calls after the first one, which also compiles.

  Returns:
    (seconds of the first call, median of the others).
  """
  seconds = []
  for run in range(runs + 1):
    start = time.perf_counter()
    work(run)
    seconds.append(time.perf_counter() - start)
  return seconds[0], float(np.median(seconds[1:]))


def peak_memory_gib():
  """Returns the peak memory of this process so far, in GiB."""
  return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
