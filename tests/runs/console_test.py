"""Tests what is printed without a terminal, and what a progress bar replaces."""

import pytest

from posttrain_jax.runs import console
from posttrain_jax.runs.console import Console


@pytest.fixture
def now(monkeypatch):
  for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
    monkeypatch.delenv(name, raising=False)
  time = {"seconds": 1000.0}
  monkeypatch.setattr(console.time, "monotonic", lambda: time["seconds"])
  return time


def printed(capsys):
  captured = capsys.readouterr()
  assert captured.out == ""  # stdout is for results
  return captured.err.splitlines()


def test_without_a_terminal_a_line_every_ten_seconds_and_at_the_end(capsys, now):
  with Console("train", 5, {}) as shown:
    found = []
    for step, seconds in ((1, 0), (2, 9), (3, 2), (4, 1), (5, 1)):
      now["seconds"] += seconds
      shown.update(step, {})
      found.append([line.strip() for line in printed(capsys)])
  assert found == [["train 1/5"], [], ["train 3/5"], [], ["train 5/5"]]


def test_a_metric_that_is_missing_keeps_its_last_value(capsys, now):
  with Console("dpo", 9, {"eval/a": "held-out", "loss": "loss"}) as shown:
    shown.update(1, {"loss": 0.25, "eval/a": 0.5, "other": 3.0})
    now["seconds"] += 11
    shown.update(2, {"loss": 0.125})
  # In the order in which the labels are given.
  assert printed(capsys) == ["dpo 1/9  held-out 0.500  loss 0.250", "dpo 2/9  held-out 0.500  loss 0.125"]


def test_text_is_neither_markup_nor_wrapped(capsys, now):
  line = "going on after step 3; [bold]" + "x" * 300
  with Console("train", 5, {}) as shown:
    shown.say(line)
  assert printed(capsys) == [line]


def test_a_quiet_console_prints_nothing(capsys, now):
  with Console("train", 1, {}, quiet=True) as shown:
    shown.say("hello")
    shown.update(1, {})
  assert printed(capsys) == []


def test_on_a_terminal_the_bar_goes_on_from_the_steps_done_before(capsys, now, monkeypatch):
  monkeypatch.setenv("FORCE_COLOR", "1")
  monkeypatch.setenv("COLUMNS", "160")
  with Console("train", 8, {"loss": "loss"}, done=3) as shown:
    shown.update(4, {"loss": 0.5})
  text = capsys.readouterr().err
  assert "3/8" in text and "4/8" in text and "loss 0.500" in text
  assert "train 4/8" not in text  # no line besides the bar


def test_a_long_step_says_in_lines_how_far_it_is(capsys, now):
  with Console("train", 5, {}) as shown:
    shown.update(1, {})
    printed(capsys)
    found = []
    for seconds, phases, progress in (
      (0, ("rollout",), (0, 64)),
      (31, ("rollout", "reward"), None),
      (29, ("rollout",), (48, 64)),
      (2, ("rollout",), (50, 60)),
      (40, (), (60, 60)),  # between two steps
      (0, ("train",), None),
    ):
      now["seconds"] += seconds
      shown.enter(phases)
      if progress:
        shown.within("answers", *progress)
      found += printed(capsys)
  assert found == [
    "train 1/5: rollout (first time: compiles), 48 of 64 answers",
    "train 1/5: train (first time: compiles)",
  ]


def test_a_bar_moves_within_a_step(capsys, now, monkeypatch):
  monkeypatch.setenv("FORCE_COLOR", "1")
  monkeypatch.setenv("COLUMNS", "160")
  with Console("train", 8, {}) as shown:
    for done in (16, 48):
      shown.enter(("rollout",))
      shown.within("answers", done, 64)
      shown._progress.refresh()
    shown.enter(())
    shown.enter(("rollout",))
    shown._progress.refresh()
  text = capsys.readouterr().err
  assert "16/64" in text and "48/64" in text and "answers" in text and "0/8" in text
  assert "compiles" in text and "compiles" not in text.split("48/64")[1].split("rollout", 1)[1]  # the first time only


def test_a_metric_that_the_run_does_not_have_is_warned_of_once(capsys, now):
  with Console("train", 9, {"eval/heldout/avg@8": "a", "los": "b", "entropy": "c", "zzz": "d"}) as shown:
    found = []
    for step, metrics in (
      (0, {"eval/heldout/avg@4": 0.5}),  # before the first update
      (1, {"updates": 0}),  # a step that trains nothing
      (2, {"updates": 1, "loss": 0.5, "grad_norm": 1.0, "entropy": 1.0}),
      (3, {"updates": 2, "loss": 0.5, "grad_norm": 1.0, "eval/heldout/avg@4": 0.5}),
      (4, {"updates": 3, "loss": 0.5, "grad_norm": 1.0, "eval/heldout/avg@4": 0.5}),
    ):
      shown.update(step, metrics)
      found.append([line for line in printed(capsys) if "warning" in line])
  start = "warning: logging.console: this run has no metric"
  assert found == [
    [],
    [],
    [f"{start} los; the closest one is loss", f"{start} zzz"],  # nothing is like zzz
    [f"{start} eval/heldout/avg@8; the closest one is eval/heldout/avg@4"],
    [],
  ]


def test_what_is_still_missing_at_the_last_step_is_warned_of(capsys, now):
  with Console("train", 1, {"eval/heldout/avg@8": "a"}) as shown:
    shown.update(1, {"loss": 0.5})
  assert "this run has no metric eval/heldout/avg@8" in printed(capsys)[-1]
