"""Tests what is left out of the output, and that everything else stays."""

import logging
import sys

import pytest

from posttrain_jax.learner import orbax_output


@pytest.mark.parametrize(
  ("path", "with_traceback", "shown"),
  [
    ("/x/orbax/checkpoint/future.py", True, False),
    ("/x/orbax/checkpoint/future.py", False, True),
    ("/x/posttrain_jax/runs/keeper.py", True, True),
  ],
)
def test_only_tracebacks_of_orbax_are_left_out(path, with_traceback, shown):
  trace = (ValueError, ValueError("full"), None) if with_traceback else None
  assert orbax_output._is_told_once(logging.LogRecord("absl", logging.ERROR, path, 1, "text", (), trace)) == shown


def test_other_exceptions_are_printed(monkeypatch):
  heard = []
  monkeypatch.setattr(sys, "excepthook", lambda *error: heard.append(error[1]))
  orbax_output.quieten.__wrapped__()
  late, other = RuntimeError("Event loop is closed"), RuntimeError("something else")
  for error in (late, other):
    sys.excepthook(RuntimeError, error, None)
  assert heard == [other]
