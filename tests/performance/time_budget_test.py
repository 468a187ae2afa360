import subprocess

import pytest

from posttrain_jax.performance.time_budget import TimedPart, run_parts

STDERR = """Traceback (most recent call last):
  File "step.py", line 3, in run
jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: Out of memory
--------------------
For simplicity, JAX has removed its internal frames from the traceback.
"""


class Machine:
  """Stands for a machine whose commands take the seconds that their first word says and print the others."""

  def __init__(self):
    self.time, self.ran = 0.0, []

  def run(self, command, *, timeout, **_):
    seconds, *words = command
    self.ran.append(words[0])
    self.time += min(float(seconds), timeout)
    if float(seconds) > timeout:
      raise subprocess.TimeoutExpired(command, timeout)
    code = 1 if words[0] == "fails" else 0
    return subprocess.CompletedProcess(command, code, stdout=words[-1], stderr=STDERR)


@pytest.fixture
def machine():
  return Machine()


def run(machine, parts, seconds):
  return run_parts(parts, seconds, run=machine.run, now=lambda: machine.time)


def part(name, seconds, size=0.0, output='{"value": 1}'):
  return TimedPart(name, [str(seconds), name, output], size)


def test_all_parts_fit(machine):
  outcome = run(machine, [part("checks", 10), part("small", 20, 1), part("large", 40, 2)], seconds=100)
  assert outcome.left_out == [] and list(outcome.found) == ["checks", "small", "large"]
  assert outcome.found["small"] == {"value": 1, "wall_seconds": 20}


def test_the_largest_is_left_out(machine):
  """After 30 of 95 seconds, a part four times as large as one of 20 seconds is not begun; one of twice its size is."""
  parts = [part("checks", 10), part("small", 20, 1), part("large", 40, 4), part("other", 40, 2)]
  outcome = run(machine, parts, seconds=100)
  assert machine.ran == ["checks", "small", "other"]
  assert outcome.left_out == ["large: 65 s were left, and it takes 80 s if time grows with size"]


def test_a_part_that_takes_longer_than_expected_is_stopped(machine):
  outcome = run(machine, [part("small", 20, 1), part("large", 1000, 2), part("larger", 1, 3)], seconds=100)
  assert machine.time == 95  # five seconds are kept for the end
  assert outcome.left_out[0] == "large: stopped after 75 s, when the time was over"
  assert outcome.left_out[1].startswith("larger: 0 s were left")
  assert list(outcome.found) == ["small"]


def test_a_part_that_fails_says_why_and_the_others_run(machine):
  parts = [part("fails", 1, 1), part("says", 1, 1000, output="nothing of use"), part("works", 1, 1)]
  outcome = run(machine, parts, seconds=100)
  assert outcome.found["fails"] == {
    "error": "exit code 1: jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: Out of memory",
    "wall_seconds": 1,
  }
  assert outcome.found["says"]["error"] == "its last line is no JSON object"
  assert outcome.found["works"]["value"] == 1
