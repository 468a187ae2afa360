"""What the peers' scripts share: how much is asked, how it is timed, what it took. NumPy and nothing else."""

import argparse
import resource
import time

import numpy as np


def asked():
  """The command line: the work of `experiments.benchmark`, with its defaults."""
  parser = argparse.ArgumentParser()
  for name, default in dict(prompts=8, group=8, prompt_length=64, new_tokens=128, runs=3).items():
    parser.add_argument(f"--{name}", type=int, default=default)
  return parser.parse_args()


def timed(work, runs):
  """(seconds of the first call, median of the others); `work` takes the number of the call and returns when done."""
  seconds = []
  for run in range(runs + 1):
    start = time.perf_counter()
    work(run)
    seconds.append(time.perf_counter() - start)
  return seconds[0], float(np.median(seconds[1:]))


def peak_memory_gib():
  """The largest memory of this process so far."""
  return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
