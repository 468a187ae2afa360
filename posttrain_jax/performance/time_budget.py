"""Runs parts of a measurement, the smallest first, until the time is over.

A process of its own gives each part its own peak memory, and leaves the others alone if it fails.
"""

import dataclasses
import json
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

_ERROR = re.compile(r"error: |[\w.]*(Error|Exception): ")
_RESERVE = 5.0  # seconds to end and to print


@dataclasses.dataclass(frozen=True)
class TimedPart:
  """Describes a part of a measurement.

  Attributes:
    name: for messages.
    command: prints the part's JSON object as its last line.
    size: what its time is roughly proportional to; 0: it is compared with no other part.
  """

  name: str
  command: Sequence[str]
  size: float


@dataclasses.dataclass(frozen=True)
class PartsFound:
  """Holds what became of the parts.

  Attributes:
    found: name → the part's JSON object, with "wall_seconds"; or "error", the last line of its error.
    left_out: a line for each part that was not measured because of the time.
  """

  found: dict[str, dict[str, Any]]
  left_out: list[str]


def run_parts(
  parts: Sequence[TimedPart],
  seconds: float,
  *,
  run: Callable[..., subprocess.CompletedProcess] = subprocess.run,
  now: Callable[[], float] = time.monotonic,
  say: Callable[[str], None] = lambda line: None,
) -> PartsFound:
  """Runs parts until the time does not suffice for the next.

  A part is expected to take as long as the last one that worked, in proportion to their sizes. If more time is left, it
  begins. If it then takes longer than the time that is left, it is stopped.

  Args:
    parts: the smallest first.
    seconds: for all parts.
    run: runs a command, as `subprocess.run`.
    now: the time in seconds.
    say: called with a line before each part.
  """
  end = now() + seconds - _RESERVE
  found: dict[str, dict[str, Any]] = {}
  left_out: list[str] = []
  per_size = 0.0  # seconds of the last part
  for part in parts:
    left, expected = end - now(), per_size * part.size
    if left <= expected or left <= 0:
      left_out.append(f"{part.name}: {left:.0f} s were left, and it takes {expected:.0f} s if time grows with size")
      continue
    say(f"{part.name}: {left:.0f} s are left")
    start = now()
    try:
      done = run(part.command, capture_output=True, text=True, timeout=left)
    except subprocess.TimeoutExpired:
      left_out.append(f"{part.name}: stopped after {left:.0f} s, when the time was over")
      continue
    took = now() - start
    found[part.name] = {**_object(done), "wall_seconds": round(took, 1)}
    if part.size and "error" not in found[part.name]:
      per_size = took / part.size
  return PartsFound(found, left_out)


def _object(done: subprocess.CompletedProcess) -> dict[str, Any]:
  """Returns the object that a command printed, or the last line of its error."""
  if done.returncode == 0:
    try:
      return dict(json.loads(done.stdout.strip().splitlines()[-1]))
    except (ValueError, IndexError):
      return {"error": "its last line is no JSON object"}
  lines = done.stderr.strip().splitlines() or ["no message"]
  said = [line for line in lines if _ERROR.match(line)] or lines  # JAX writes hints after its errors
  return {"error": f"exit code {done.returncode}: {said[-1]}"}
