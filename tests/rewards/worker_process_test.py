"""Tests the parent's side: one child, its failures, its replacement and its end."""

import os
import pathlib
import socket
import sys
import time

import pytest

from posttrain_jax.parallel.supervisor import Supervised
from posttrain_jax.rewards import worker_process
from posttrain_jax.rewards.worker_process import WorkerProcess
from posttrain_jax.types import InputError

HERE = pathlib.Path(__file__).resolve().parent
FUNCTIONS = [(f"hostile_rewards:{name}", {}) for name in ("by_command", "pid", "from_column")]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
  monkeypatch.syspath_prepend(str(HERE))  # for `hostile_rewards`; the child gets this process's path


@pytest.fixture
def worker():
  worker = WorkerProcess(FUNCTIONS, start_seconds=60)
  worker.start()
  yield worker
  worker.close()


def pid(worker) -> int:
  (found,), _ = worker.call(1, [""], [{}], 10)
  return int(found)


def is_gone(pid) -> bool:
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return True
  return False


def test_a_call_gives_rewards_or_the_reason_why_there_are_none(worker):
  assert worker.call(0, ["a", "none", "ccc"], [{}] * 3, 10) == ([1.0, None, 3.0], "")
  rewards, why = worker.call(0, ["a", "raise"], [{}] * 2, 10)
  assert rewards is None and why.startswith("KeyError: 'nothing\\nhere' (hostile_rewards.py:")
  assert worker.failures == 0  # an exception costs no child
  assert worker.call(0, [], [], 10) == ([], "")


def test_a_child_that_hangs_or_dies_is_replaced_at_the_next_call(worker):
  first = pid(worker)
  assert first != os.getpid()
  assert worker.call(0, ["sleep"], [{}], 0.3) == (None, "timed out after 0.3 s")
  assert is_gone(first)
  assert worker.call(0, ["exit"], [{}], 10) == (None, "its process died with exit code 3")
  assert worker.call(0, ["kill"], [{}], 10) == (None, "its process died with SIGKILL")
  assert worker.failures == 3
  assert worker.call(0, ["bb"], [{}], 10) == ([2.0], "")
  assert pid(worker) not in (first, os.getpid())


OUT_OF_STEP = "its process wrote something else than the reply to this request"
CLOSED = "the function closed its process's connection"


@pytest.mark.parametrize(
  ("command", "outcome"),
  [
    ("fork returns", ([0.0], "")),
    ("fork raises", ([1.0], "")),
    ("fork and forget", ([0.0], "")),
    ("write a reply", (None, OUT_OF_STEP)),
    ("write the first reply", (None, OUT_OF_STEP)),
    ("write part of a line", (None, OUT_OF_STEP)),
    ("write rubbish", (None, OUT_OF_STEP)),
    ("write a blank line", (None, OUT_OF_STEP)),
    ("child writes", (None, OUT_OF_STEP)),
    ("flood", (None, OUT_OF_STEP)),
    ("close", (None, CLOSED)),
    ("reuse", (None, CLOSED)),
    ("shut and wait", (None, CLOSED)),
    ("print", ([5.0], "")),
    ("interrupt", (None, "KeyboardInterrupt: (hostile_rewards.py:41)")),
  ],
)
def test_what_disturbs_the_connection_has_one_outcome_and_changes_no_other_verdict(
  worker, command, outcome, monkeypatch
):
  monkeypatch.setattr(worker_process, "_EXIT_SECONDS", 0.3)
  rewards, why = worker.call(0, [command], [{}], 10)
  assert (rewards, why.rpartition(":")[0]) == (outcome[0], outcome[1].rpartition(":")[0])
  if ":" not in outcome[1]:
    assert why == outcome[1]
  assert worker.failures == (rewards is None and command != "interrupt")
  for _ in range(3):
    assert worker.call(2, ["", ""], [{"value": 0.25}, {"value": 0.5}], 10) == ([0.25, 0.5], "")
  assert worker.failures == (rewards is None and command != "interrupt")


def test_what_is_written_after_a_reply_is_not_taken_for_the_next_one(worker):
  first = pid(worker)
  assert worker.call(0, ["later"], [{}], 10) == ([5.0], "")
  time.sleep(0.4)
  assert worker.call(2, [""], [{"value": 0.25}], 10) == ([0.25], "")
  assert worker.failures == 1 and is_gone(first)


@pytest.mark.parametrize(
  "reply",
  [
    '{"rewards": [1]}',  # one of two
    '{"rewards": [1, "2"]}',
    '{"rewards": [1, 2], "note": 3}',
    '{"rewards": [1, 1e999]}',
    '{"rewards": [1, 1%s]}' % ("0" * 400),
    '{"rewards": 1}',
    '{"error": 3}',
    "{}",
    "[]",
    "[" * 100_000,
  ],
)
def test_a_reply_that_does_not_fit_is_none(reply):
  """The child is this test; its one line comes before the request."""
  worker = WorkerProcess(FUNCTIONS, start_seconds=60)
  worker._channel, child = socket.socketpair()
  worker._child = Supervised([sys.executable, "-c", "import time; time.sleep(600)"])
  with child:
    child.sendall(f"1 {reply}\n".encode())
    found = worker._exchange("{}", lambda found: worker_process._is_call_reply(found, 2), 1 << 20, 5)
  assert found == (None, OUT_OF_STEP)
  worker.close()


def test_a_closed_worker_has_no_child_and_takes_no_calls(worker):
  child = pid(worker)
  worker.close()
  assert is_gone(child)
  with pytest.raises(RuntimeError, match="the reward workers are closed"):
    worker.call(0, ["a"], [{}], 10)
  with pytest.raises(RuntimeError, match="the reward workers are closed"):
    worker.start()
  worker.close()  # once more is harmless


def test_a_value_that_is_not_json_names_its_column_and_costs_no_child(worker):
  child = pid(worker)
  with pytest.raises(InputError, match=r"data row: column 'image' is b'0'; expected a JSON value"):
    worker.call(0, ["a"], [{"answer": "1", "image": b"0"}], 10)
  assert pid(worker) == child


@pytest.mark.parametrize(
  ("functions", "seconds", "message"),
  [
    ([("hostile_rewards:by_command", {"log": b""})], 60, r"options are \[{'log': b''}\]; expected JSON"),
    ([*FUNCTIONS, ("hostile_rewards:nothing", {})], 60, "'hostile_rewards:nothing': hostile_rewards has no function"),
    (FUNCTIONS, 1e-3, "timed out after 0.001 s while loading"),
  ],
)
def test_functions_that_do_not_load_are_refused(functions, seconds, message):
  worker = WorkerProcess(functions, start_seconds=seconds)
  with pytest.raises(InputError, match=message):
    worker.start()
  worker.close()
