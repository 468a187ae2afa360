"""Measures a preparation of raw text: its time, and the memory of its processes."""

import json
import os
import pathlib
import resource
import subprocess
import sys
import time
from typing import Any

from posttrain_jax.performance.raw_text import write_raw_text
from posttrain_jax.types import InputError

_SECONDS_BETWEEN_LOOKS = 0.1


def measure_preparation(folder: pathlib.Path, megabytes: int, *, workers: int, seed: int) -> dict[str, Any]:
  """Writes raw text and prepares it with the package's own config.

  Args:
    folder: gets raw/ and prepared/; must be empty or not there.
    megabytes: raw text in 10⁶ bytes.
    workers: processes.
    seed: of the text.

  Returns:
    Counts of documents, seconds of wall clock and of CPU, and the memory in MiB: of the largest process and of all
    together, each at its peak.

  Raises:
    InputError: if the folder has something in it.
    RuntimeError: if the preparation fails.
  """
  if folder.exists() and any(folder.iterdir()):
    raise InputError(f"--workdir={folder}: is not empty, expected a folder for new raw text")
  raw = folder / "raw"
  raw.mkdir(parents=True)
  write_raw_text(raw, megabytes * 10**6, seed=seed)
  command = [sys.executable, "-m", "experiments.prepare", f"--config.input.paths={raw}", f"--config.workers={workers}"]
  before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
  child = subprocess.Popen([*command, f"--workdir={folder / 'prepared'}"], stdout=subprocess.PIPE)
  largest = together = 0.0
  while child.poll() is None:
    sizes = [memory_of(process) for process in family(child.pid)]
    largest, together = max(largest, *sizes, 0.0), max(together, sum(sizes))
    time.sleep(_SECONDS_BETWEEN_LOOKS)
  seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
  if child.returncode:
    raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}")
  found = json.loads(child.stdout.read().splitlines()[-1])
  cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
  memory = {"largest_process_mib": round(largest), "all_processes_mib": round(together)}
  return {**found, "seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1), **memory, "load": os.getloadavg()[0]}


def family(process: int) -> list[int]:
  """Returns a process and its descendants."""
  try:
    children = pathlib.Path(f"/proc/{process}/task/{process}/children").read_text().split()
  except OSError:
    children = []
  return [process, *(each for child in children for each in family(int(child)))]


def memory_of(process: int) -> float:
  """Returns the resident memory of a process in MiB; 0 if it has ended."""
  try:
    status = pathlib.Path(f"/proc/{process}/status").read_text()
  except OSError:
    return 0.0
  found = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
  return int(found[0]) / 1024 if found else 0.0
