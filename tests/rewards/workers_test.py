import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from absl import logging

from posttrain_jax.rewards import workers
from posttrain_jax.rewards.workers import RewardFunction, RewardWorkers
from posttrain_jax.types import InputError

HERE = pathlib.Path(__file__).resolve().parent
NAN = np.nan


@pytest.fixture(autouse=True)
def importable(monkeypatch):
  monkeypatch.syspath_prepend(str(HERE))  # for `hostile_rewards`; the workers get this process's path


def hostile(name="by_command", **options):
  return RewardFunction(f"hostile_rewards:{name}", options=options)


def score(texts, workers, **kwargs):
  with RewardWorkers([hostile()], workers=workers, **kwargs) as pool:
    return pool.score(0, texts, [{}] * len(texts)), pool.restarts


def wait_until_gone(pid, seconds=5.0):
  deadline = time.monotonic() + seconds
  while time.monotonic() < deadline:
    try:
      os.kill(pid, 0)
      if pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
        return True
    except (ProcessLookupError, FileNotFoundError):
      return True
    time.sleep(0.02)
  return False


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_rewards_in_order(workers):
  texts = ["a" * n for n in (3, 1, 4, 1, 5, 9, 2)]
  rewards, restarts = score(texts, workers)
  np.testing.assert_array_equal(rewards, [3, 1, 4, 1, 5, 9, 2])
  assert rewards.dtype == np.float64
  assert restarts == 0


def test_an_empty_batch():
  assert score([], workers=2)[0].shape == (0,)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("command", ["nan", "inf", "none", "text", "huge", "raise", "short", "sys.exit"])
def test_only_the_guilty_answer_is_invalid(command, workers):
  rewards, restarts = score(["a", "bb", command, "dddd", "eeeee"], workers)
  np.testing.assert_array_equal(rewards, [1, 2, NAN, 4, 5])
  assert restarts == 0


@pytest.mark.parametrize("command", ["sleep", "hold the lock", "exit", "kill"])
def test_only_the_guilty_answer_is_invalid_when_the_worker_has_to_be_replaced(command):
  rewards, restarts = score(["a", command, "ccc", "dddd"], workers=1, batch_seconds=2.0, answer_seconds=0.5)
  np.testing.assert_array_equal(rewards, [1, NAN, 3, 4])
  assert restarts == 2  # the batch, then the answer alone


def test_several_guilty_answers_over_several_workers():
  texts = ["sleep", "bb", "exit", "raise", "eeeee", "nan", "true", "sleep"]
  rewards, _ = score(texts, workers=2, batch_seconds=1.0, answer_seconds=1.0)
  np.testing.assert_array_equal(rewards, [NAN, 2, NAN, NAN, 5, NAN, 1, NAN])


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_what_a_function_says_beside_rewards(workers):
  with RewardWorkers([hostile()], workers=workers) as pool:
    found = pool.judge(0, ["a", "none", "text", "raise"], [{}] * 4)
  np.testing.assert_array_equal(found.rewards, [1, NAN, NAN, NAN])
  np.testing.assert_array_equal(found.abstained, [False, True, False, False])
  np.testing.assert_array_equal(found.failed, [False, False, True, True])
  assert not found.timed_out.any()
  assert sorted(found.reasons) == [2, 3]
  assert found.reasons[2].startswith("returned '1' (str), expected a finite number")
  assert "KeyError: 'nothing" in found.reasons[3]


def test_what_ran_out_of_time_is_marked():
  with RewardWorkers([hostile()], workers=1, batch_seconds=1.0, answer_seconds=0.3) as pool:
    found = pool.judge(0, ["a", "sleep", "exit"], [{}] * 3)
  np.testing.assert_array_equal(found.timed_out, [False, True, False])
  np.testing.assert_array_equal(found.failed, [False, True, True])


def test_printing_and_reading_do_not_disturb_the_protocol():
  np.testing.assert_array_equal(score(["print", "bb"], workers=1)[0], [5, 2])


def test_one_call_per_worker_when_all_goes_well(tmp_path):
  log = tmp_path / "log"
  with RewardWorkers([hostile(log=str(log))], workers=2) as pool:
    log.unlink()  # the empty batches at loading
    pool.score(0, ["a"] * 7, [{}] * 7)
  assert sorted(log.read_text().split()) == ["3", "4"]


def test_a_failure_is_logged_in_one_line_that_says_what_where_and_how_many(monkeypatch):
  lines = []
  monkeypatch.setattr(logging, "warning", lambda message, *args: lines.append(message % args))
  score(["a", "raise", "b"], workers=1)
  score(["a", "short"], workers=1)
  score(["nan"], workers=0)
  assert len(lines) == 3
  assert "by_command: 1 of 3 answers" in lines[0]
  assert "KeyError: 'nothing\\nhere' (hostile_rewards.py:" in lines[0]
  assert "returned 0 rewards for 1 answers" in lines[1]
  assert "returned nan (float)" in lines[2]
  assert not any("\n" in line for line in lines)


def test_a_wait_is_shown(monkeypatch):
  lines = []
  monkeypatch.setattr(logging, "warning", lambda message, *args: lines.append(message % args))
  monkeypatch.setattr(workers, "_SHOW_SECONDS", 0.1)
  score(["a", "bb", "sleep"], workers=1, batch_seconds=0.4, answer_seconds=0.4)
  assert lines[0].startswith("reward function by_command: 2 of 3 answers judged after 0 s")
  assert len(lines) >= 3 and "answers have no reward" in lines[-1]


def test_a_large_sound_batch_is_not_cut_off():
  with RewardWorkers([hostile("takes_10_ms")], batch_seconds=0.2, answer_seconds=0.2) as pool:
    assert pool.score(0, [""] * 60, [{}] * 60).tolist() == [1] * 60
    assert pool.restarts == 0


def test_a_function_that_hangs_on_everything_costs_a_few_limits():
  start = time.monotonic()
  rewards, restarts = score(["sleep"] * 64, workers=1, batch_seconds=0.4, answer_seconds=0.2)
  assert np.isnan(rewards).all() and restarts == 4
  assert time.monotonic() - start < 0.4 + 3 * 0.2 + 10  # 64 limits and starts would be more


def test_no_answer_gets_the_verdict_of_another_after_a_fork():
  with RewardWorkers([hostile(), hostile("from_column")], workers=2) as pool:
    for _ in range(3):
      assert pool.score(0, ["fork and forget"] * 2, [{}] * 2).tolist() == [0, 0]
      assert pool.score(1, [""] * 4, [{"value": value} for value in (0, 1, 2, 3)]).tolist() == [0, 1, 2, 3]
    assert pool.restarts == 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
@pytest.mark.parametrize("command", ["sleep", "exit", None])
def test_a_daemon_that_a_function_started_ends_with_its_worker(command):
  with RewardWorkers([hostile("starts_daemon"), hostile()], batch_seconds=0.3, answer_seconds=0.3) as pool:
    pid = int(pool.score(0, [""], [{}])[0])
    os.kill(pid, 0)
    if command is not None:
      assert np.isnan(pool.score(1, [command], [{}])).all()
      assert wait_until_gone(pid, 0.1)  # before its successor starts
  assert wait_until_gone(pid)


def test_several_functions_get_rows_and_options():
  functions = [
    RewardFunction("hostile_rewards:from_column"),
    RewardFunction("posttrain_jax.rewards.verifiers:exact_answer", options={"style": "boxed", "incorrect": -1}),
  ]
  rows = [{"answer": "1", "value": 0.5, "nested": {"list": [1, None]}}, {"answer": "é", "value": -2}]
  with RewardWorkers(functions) as pool:
    np.testing.assert_array_equal(pool.score(0, ["", ""], rows), [0.5, -2])
    np.testing.assert_array_equal(pool.score(1, ["\\boxed{1}", "\ud800\\boxed{1}"], rows), [1, -1])


def test_a_worker_with_the_packages_own_verifiers_never_imports_jax():
  functions = [hostile("imported_jax"), RewardFunction("posttrain_jax.rewards.verifiers:exact_answer")]
  with RewardWorkers(functions) as pool:
    assert pool.score(0, ["x"], [{}]) == [0]


@pytest.mark.skipif(not pathlib.Path("/proc/self/oom_score_adj").exists(), reason="needs Linux")
def test_a_worker_is_what_the_kernel_ends_first_when_memory_runs_out():
  with RewardWorkers([hostile("out_of_memory_score")]) as pool:
    assert pool.score(0, ["x"], [{}]) == [1000]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
  ("function", "message"),
  [
    (RewardFunction("posttrain_jax.rewards.verifiers:exact_anser"), "did you mean 'exact_answer'"),
    (RewardFunction("no_such_module:f"), "cannot import no_such_module: ModuleNotFoundError"),
    (RewardFunction("exact_answer"), "expected 'module:function'"),
    (RewardFunction("posttrain_jax.rewards.verifiers:exact_answer", options={"stile": "boxed"}), "stile"),
    (
      RewardFunction("posttrain_jax.rewards.verifiers:exact_answer", options={"style": "boxd"}),
      "'boxd' is not a valid",
    ),
    (RewardFunction("hostile_rewards:needs_an_answer"), "fails on an empty batch"),
  ],
)
def test_a_function_that_cannot_be_used_is_refused_at_once(function, message, workers):
  with pytest.raises(InputError, match=function.path) as error, RewardWorkers([hostile(), function], workers=workers):
    pass
  assert message in str(error.value)
  assert "\n" not in str(error.value)


def test_bad_arguments_are_refused():
  with pytest.raises(InputError, match="names unique"):
    RewardWorkers([hostile(), hostile()])
  with pytest.raises(InputError, match="at least one"):
    RewardWorkers([])
  for bad in ({"workers": -1}, {"answer_seconds": 0}):
    with pytest.raises(InputError, match="expected at least 0 workers and limits above 0"):
      RewardWorkers([hostile()], **bad)
  with pytest.raises(InputError, match="weight is nan"):
    RewardFunction("a:b", weight=NAN)
  with RewardWorkers([hostile()]) as pool:
    with pytest.raises(InputError, match=r"column 'image' is .*expected a JSON value"):
      pool.score(0, ["a"], [{"answer": "1", "image": b"0"}])
    np.testing.assert_array_equal(pool.score(0, ["a"], [{}]), [1])


@pytest.mark.parametrize("workers", [0, 1])
def test_works_from_another_thread_and_from_several_at_once(workers):
  results = {}
  with RewardWorkers([hostile()], workers=workers) as pool:

    def run(n):
      results[n] = pool.score(0, ["a" * n, "raise"], [{}] * 2)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(1, 5)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
  for n in range(1, 5):
    np.testing.assert_array_equal(results[n], [n, NAN])


def test_close_ends_the_workers_even_during_a_call():
  pool = RewardWorkers([hostile(), hostile("pid")], workers=2)
  pids = pool.score(1, ["", ""], [{}] * 2).astype(int)
  assert len(set(pids)) == 2
  errors = []

  def sleep():
    try:
      pool.score(0, ["sleep"] * 2, [{}] * 2)
    except RuntimeError as error:
      errors.append(str(error))

  thread = threading.Thread(target=sleep)
  thread.start()
  time.sleep(0.3)
  start = time.monotonic()
  pool.close()
  thread.join()
  assert time.monotonic() - start < 2
  assert errors == ["the reward workers are closed"]
  assert all(wait_until_gone(pid) for pid in pids)
  with pytest.raises(RuntimeError):
    pool.score(0, ["a"], [{}])
  pool.close()  # once more is harmless


def test_what_a_function_started_ends_with_its_worker():
  with RewardWorkers([hostile("starts_program")]) as pool:
    pid = int(pool.score(0, [""], [{}])[0])
  assert wait_until_gone(pid)


@pytest.mark.parametrize("command", ["sleep", "hold the lock", None])
def test_workers_die_with_their_parent(command):
  program = f"""
import sys
sys.path[:0] = {[str(HERE), str(HERE.parents[1])]!r}
from posttrain_jax.rewards import workers
from posttrain_jax.rewards.workers import RewardFunction, RewardWorkers
paths = [f"hostile_rewards:{{name}}" for name in ("pid", "starts_program", "starts_daemon", "by_command")]
pool = RewardWorkers([RewardFunction(path) for path in paths], batch_seconds=600, answer_seconds=600)
print(*(int(pool.score(index, [""], [{{}}])[0]) for index in range(3)), flush=True)
if {command!r}:
  pool.score(3, [{command!r}], [{{}}])
sys.stdin.read()
"""
  parent = subprocess.Popen(
    [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
  )
  pids = [int(word) for word in parent.stdout.readline().split()]
  time.sleep(0.3)  # into the call
  assert len(pids) == 3
  for pid in pids:
    os.kill(pid, 0)
  os.kill(parent.pid, signal.SIGKILL)
  parent.wait()
  parent.stdin.close()
  parent.stdout.close()
  assert all(wait_until_gone(pid) for pid in pids)
