"""Tests the child's side: functions are loaded, called and described.

The tests of the protocol run the program itself.
"""

import json
import math
import pathlib
import socket
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from posttrain_jax.rewards import worker_main

HERE = pathlib.Path(__file__).resolve().parent
EXACT = "posttrain_jax.rewards.verifiers:exact_answer"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
  monkeypatch.syspath_prepend(str(HERE))  # for `hostile_rewards`


@pytest.mark.parametrize(
  ("path", "options", "message"),
  [
    ("exact_answer", {}, "expected 'module:function'"),
    (":exact_answer", {}, "expected 'module:function'"),
    ("no_such_module:f", {}, "cannot import no_such_module: ModuleNotFoundError"),
    ("posttrain_jax.rewards.verifiers:exact_anser", {}, "no function 'exact_anser'; did you mean 'exact_answer'?"),
    ("posttrain_jax.rewards.verifiers:zzz", {}, r"no function 'zzz'$"),
    (EXACT, {"stile": "boxed"}, r"does not take \(texts, rows, \*\*{'stile': 'boxed'}\)"),
    (EXACT, {"style": "boxd"}, "fails on an empty batch with options {'style': 'boxd'}: ValueError"),
  ],
)
def test_what_cannot_be_loaded_is_refused(path, options, message):
  with pytest.raises(worker_main.LoadError, match=message):
    worker_main.load_function(path, options)


def test_what_is_loaded_is_called_with_its_options():
  options = {"style": "boxed", "incorrect": -1.0}
  function = worker_main.load_function(EXACT, options)
  rows = [{"answer": "3"}, {"answer": "4"}]
  assert worker_main.call_function(function, options, ["\\boxed{3}", "\\boxed{3}"], rows) == ([1.0, -1.0], "")


def test_numbers_of_any_kind_are_rewards_none_abstains_and_the_rest_is_nan():
  values = [1, True, np.bool_(True), np.float32(0.5), np.array(2), Fraction(1, 4), None]
  bad = ["1", b"1", float("nan"), float("inf"), 10**400, [1], {}]
  call = lambda texts, rows: values + bad  # noqa: E731
  found, note = worker_main.call_function(call, {}, [""] * 14, [{}] * 14)
  assert found[:7] == [1.0, 1.0, 1.0, 0.5, 2.0, 0.25, None]
  assert all(math.isnan(reward) for reward in found[7:])
  assert note == "returned '1' (str), expected a finite number, or None to abstain"
  assert worker_main.call_function(lambda texts, rows: np.ones(2), {}, [""] * 2, [{}] * 2) == ([1.0, 1.0], "")


def test_a_failure_is_described_in_one_line():
  def fails(texts, rows):
    raise KeyError("two\nlines " + "x" * 600)

  rewards, error = worker_main.call_function(fails, {}, ["a"], [{}])
  assert rewards is None and "\n" not in error
  assert error.startswith("KeyError: 'two") and "(worker_main_test.py:" in error and len(error) < 600
  assert worker_main.call_function(lambda texts, rows: [1], {}, ["a", "b"], [{}] * 2) == (
    None,
    "returned 1 rewards for 2 answers",
  )


def test_a_function_may_give_no_end_of_rewards_or_raise_what_is_no_exception():
  def goes_on(texts, rows):
    while True:
      yield 1.0

  class Stop(BaseException):
    def __str__(self):
      raise ValueError

  def stops(texts, rows):
    raise Stop

  assert worker_main.call_function(goes_on, {}, ["a"], [{}]) == (None, "returned more than 1 rewards for 1 answers")
  rewards, error = worker_main.call_function(stops, {}, ["a"], [{}])
  assert rewards is None and error.startswith("Stop: its text cannot be shown (worker_main_test.py:")
  with pytest.raises(KeyboardInterrupt):  # Ctrl-C in this process
    worker_main.call_function(lambda texts, rows: (_ for _ in ()).throw(KeyboardInterrupt), {}, ["a"], [{}])


def test_a_function_comes_from_a_file(tmp_path, monkeypatch):
  (tmp_path / "here").mkdir()
  (tmp_path / "beside").mkdir()
  (tmp_path / "beside" / "json.py").write_text("def f(texts, rows):\n  return [len(text) for text in texts]\n")
  (tmp_path / "beside" / "uses_it.py").write_text("from only_beside import f\n")
  (tmp_path / "beside" / "only_beside.py").write_text("f = lambda texts, rows: [7.0 for _ in texts]\n")
  (tmp_path / "beside" / "broken.py").write_text("def f(:\n")
  monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "beside")])
  monkeypatch.chdir(tmp_path / "here")
  function = worker_main.load_function("json.py:f", {})  # a name that a module of Python's has, too
  assert function(["abc"], [{}]) == [3] and worker_main.load_function("json.py:f", {}) is function
  (tmp_path / "here" / "json.py").write_text("def f(texts, rows):\n  return [0.0 for _ in texts]\n")
  assert worker_main.load_function("json.py:f", {})(["abc"], [{}]) == [0.0]  # the current directory comes first
  monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path / "beside")])
  path = f"{tmp_path}/beside/uses_it.py:f"
  assert worker_main.load_function(path, {})(["abc"], [{}]) == [7.0]
  with pytest.raises(worker_main.LoadError, match=f"there is no file rewards.py, looked in {tmp_path}/here and"):
    worker_main.load_function("rewards.py:f", {})
  with pytest.raises(worker_main.LoadError, match=r"cannot import .*broken\.py: SyntaxError"):
    worker_main.load_function(f"{tmp_path}/beside/broken.py:f", {})
  assert "json" in sys.modules and sys.modules["json"] is json


@pytest.fixture
def program():
  """Starts the program; gives the run's end of the connection, the process, and a function that asks."""
  here, there = socket.socketpair()
  process = subprocess.Popen(
    [sys.executable, "-P", worker_main.__file__, str(there.fileno())],
    pass_fds=[there.fileno()],
    stdin=subprocess.DEVNULL,
  )
  there.close()
  here.settimeout(60)
  replies = here.makefile("r", encoding="utf-8")

  def ask(number, **request):
    here.sendall(f"{number} {json.dumps(request)}\n".encode())
    found, _, reply = replies.readline().partition(" ")
    assert found == str(number)
    return json.loads(reply)

  yield here, process, ask
  replies.close()
  here.close()
  process.kill()
  process.wait()


def load(*names):
  return dict(load=[[f"hostile_rewards:{name}", {}] for name in names], sys_path=sys.path)


def test_the_program_answers_line_by_line_and_ends_with_its_connection(program):
  here, process, ask = program
  assert ask(1, **load("by_command", "from_column")) == {"loaded": True}
  assert ask(2, function=0, texts=["a", "none", "éé"], rows=[{}] * 3) == {"rewards": [1.0, None, 2.0]}
  assert ask(7, function=1, texts=[""], rows=[{"value": 0.5}]) == {"rewards": [0.5]}
  assert "KeyError: 'value'" in ask(8, function=1, texts=[""], rows=[{}])["error"]
  assert "KeyboardInterrupt" in ask(9, function=0, texts=["interrupt"], rows=[{}])["error"]
  refused = ask(10, **load("by_command", "none"))
  assert refused["function"] == 1 and "has no function 'none'" in refused["error"]
  assert process.poll() is None
  here.shutdown(socket.SHUT_WR)
  assert process.wait(timeout=10) == 0


def test_a_forked_process_neither_answers_nor_reads_and_ends_where_it_leaves_the_function(program):
  _, _, ask = program
  assert ask(1, **load("by_command", "is_open")) == {"loaded": True}
  # Each gives the child's exit status. It would go on in the program's loop after the call otherwise.
  texts = ["fork returns", "fork raises", "fork exits"]
  for number, (text, status) in enumerate(zip(texts, (0, 1, 5)), start=2):
    assert ask(number, function=0, texts=[text], rows=[{}]) == {"rewards": [status]}
  assert ask(5, function=1, texts=[""], rows=[{}]) == {"rewards": [0]}  # the connection is closed in the child


def test_a_connection_that_the_function_closed_is_an_exit_code(program):
  _, process, ask = program
  ask(1, **load("by_command"))
  with pytest.raises(AssertionError):
    ask(2, function=0, texts=["close"], rows=[{}])
  assert process.wait(timeout=10) == worker_main.CONNECTION_LOST
