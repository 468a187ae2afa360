"""Tests the child's side: functions are loaded, called and described.

The tests of the protocol run the program itself.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys

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


def test_values_that_are_no_finite_numbers_become_none():
  values = [1, True, "1", b"1", None, float("nan"), float("inf"), 10**400, [1], 2.5]
  found, error = worker_main.call_function(lambda texts, rows: values, {}, [""] * 10, [{}] * 10)
  assert found == [1.0, 1.0, None, None, None, None, None, None, None, 2.5] and error == ""


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


def test_the_program_answers_line_by_line_and_ends_with_its_lifeline():
  here, there = socket.socketpair()
  child_lifeline, lifeline = os.pipe()
  descriptors = [there.fileno(), child_lifeline]
  process = subprocess.Popen(
    [sys.executable, "-P", worker_main.__file__, *map(str, descriptors)],
    pass_fds=descriptors,
    stdin=subprocess.DEVNULL,
    start_new_session=True,
  )
  there.close()
  os.close(child_lifeline)
  here.settimeout(60)

  with here, here.makefile("r", encoding="utf-8") as responses:

    def ask(**request):
      here.sendall(json.dumps(request).encode() + b"\n")
      return json.loads(responses.readline())

    load = [["hostile_rewards:by_command", {}], ["hostile_rewards:from_column", {}]]
    assert ask(load=load, sys_path=sys.path) == {"loaded": True}
    assert ask(function=0, texts=["a", "none", "éé"], rows=[{}] * 3) == {"rewards": [1.0, None, 2.0]}
    assert ask(function=1, texts=[""], rows=[{"value": 0.5}]) == {"rewards": [0.5]}
    assert "KeyError: 'value'" in ask(function=1, texts=[""], rows=[{}])["error"]
    refused = ask(load=[load[0], ["hostile_rewards:none", {}]], sys_path=sys.path)
    assert refused["function"] == 1 and "has no function 'none'" in refused["error"]
    assert process.poll() is None
    os.close(lifeline)
    assert process.wait(timeout=10) != 0
