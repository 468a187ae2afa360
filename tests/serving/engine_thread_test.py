"""Tests what an engine in a thread reports; `running_model_test.py` compares its answers with an engine alone."""

import queue

import pytest

from posttrain_jax.serving.completion import Ending
from posttrain_jax.serving.engine_reports import DrawnParts, EngineEnded, EngineRequest, Loaded, NotDrawn
from posttrain_jax.serving.engine_thread import EngineThread
from posttrain_jax.serving.running_request import sampling_of
from posttrain_jax.types import InputError, NotFinite
from tests.serving.served import SIZES, asked


def request(number, *, choices=1, **changes):
  return EngineRequest(number, (4, 5), choices, sampling_of(asked(**changes), SIZES.max_new_tokens))


@pytest.fixture
def started(folder):
  """Returns an engine in a thread, and the queue of its reports."""
  reports = queue.SimpleQueue()
  engine = EngineThread(str(folder), SIZES, None, reports.put)
  yield engine, reports
  engine.close()


def parts(reports, *, until):
  """Returns the parts that are reported, until so many choices have ended."""
  found = []
  while sum(part.ending is not None for part in found) < until:
    report = reports.get(timeout=30)
    assert isinstance(report, DrawnParts)
    found += report.parts
  return found


def test_it_reports_its_version_what_is_drawn_and_its_end(started):
  engine, reports = started
  assert isinstance(reports.get(), Loaded)
  engine.submit(request(5, choices=2, top_logprobs=2, temperature=0.0))
  found = parts(reports, until=2)
  assert {(part.number, part.choice) for part in found} == {(5, 0), (5, 1)}
  for part in found:
    assert len(part.tokens) == len(part.logprobs) == len(part.top)
    assert [top[0] for top in part.top] == list(zip(part.tokens, part.logprobs)) and {len(top) for top in part.top} == {
      2
    }
    assert part.ending in (None, Ending.STOP, Ending.LENGTH)
  engine.close()
  assert reports.get() == EngineEnded(None) and reports.empty()


def test_cancelled_requests_are_drawn_no_further(started):
  engine, reports = started
  reports.get()
  step, waiting = engine._engine.step, queue.SimpleQueue()
  engine._engine.step = lambda: (waiting.get(), step())[1]
  engine.submit(request(0))  # is taken, and its first dispatch waits
  while not engine._running:
    pass
  engine.submit(request(1))
  engine.cancel(1)  # before it is taken
  engine.submit(request(2))
  engine.cancel(0)
  engine.cancel(7)  # which never was
  engine._engine.step = step
  waiting.put(None)
  assert {part.number for part in parts(reports, until=1)} <= {0, 2}
  engine.close()
  assert engine._running == {} and not engine._engine.busy


def test_what_cannot_be_drawn_ends_what_had_begun(started):
  engine, reports = started
  reports.get()
  step = engine._engine.step

  def broken():
    engine._engine.step = step
    engine._engine.suspend()
    raise NotFinite("broken")

  engine._engine.step = broken
  engine.submit(request(3))
  assert reports.get(timeout=30) == NotDrawn([3], "broken")
  engine.submit(request(4))
  assert {part.number for part in parts(reports, until=1)} == {4}


def test_a_failure_is_the_last_report(started):
  engine, reports = started
  reports.get()

  def broken():
    raise ValueError("out of\nmemory")

  engine._engine.step = broken
  engine.submit(request(3))
  assert reports.get(timeout=30) == EngineEnded("out of memory")


def test_a_folder_without_a_model_is_named(tmp_path):
  with pytest.raises(InputError, match="does not exist"):
    EngineThread(str(tmp_path / "none"), SIZES, None, print)
