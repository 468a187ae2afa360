import os
import signal
import subprocess
import sys
import time

import pytest

from posttrain_jax.data.prepare.workers import in_order

PROGRAM = """
import sys, time
from posttrain_jax.data.prepare.workers import in_order
def inputs():
  for i in range(1000):
    yield i
if __name__ == "__main__":
  from tests.data.prepare.slow_work import Slow
  for pid in in_order(Slow(0.2), inputs(), workers=2):
    print(pid, flush=True)
"""


def square(x):
  if x == 13:
    raise ValueError("unlucky")
  return x * x


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_and_inputs_are_not_taken_ahead(workers):
  taken = []

  def inputs():
    for i in range(12):
      taken.append(i)
      yield i

  for number, found in enumerate(in_order(abs, inputs(), workers=workers)):
    assert found == number
    assert len(taken) - number <= 2 * workers


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_work_is_raised(workers):
  with pytest.raises(ValueError, match="unlucky"):
    list(in_order(square, [1, 13, 2], workers=workers))


def test_workers_end_with_their_parent():
  parent = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
  workers = {int(parent.stdout.readline()) for _ in range(4)}
  assert len(workers) == 2 and all(alive(worker) for worker in workers)
  parent.send_signal(signal.SIGKILL)
  parent.wait()
  end = time.monotonic() + 20
  while any(map(alive, workers)) and time.monotonic() < end:
    time.sleep(0.05)
  assert not any(map(alive, workers))


def alive(process):
  try:
    os.kill(process, 0)
  except ProcessLookupError:
    return False
  with open(f"/proc/{process}/stat") as stat:  # a process that has ended stays until its parent asks
    return stat.read().rpartition(")")[2].split()[0] != "Z"
