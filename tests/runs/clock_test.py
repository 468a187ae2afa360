import threading

import pytest

from posttrain_jax.runs import clock
from posttrain_jax.runs.clock import Clock


@pytest.fixture
def tick(monkeypatch):
  """Replaces the clock by one that the test moves."""
  now = [100.0]
  monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])

  def move(seconds):
    now[0] += seconds

  return move


def test_phases_that_nest_are_counted_once(tick):
  measured = Clock()
  tick(1)
  with measured.phase("rollout"):
    tick(2)
    with measured.phase("reward"):
      tick(4)
      with measured.phase("judge"):
        tick(8)
    tick(16)
    with measured.phase("reward"):
      tick(32)
  tick(64)
  taken = measured.take()
  assert taken == {"time/rollout": 18, "time/reward": 36, "time/judge": 8, "time/total": 127}


def test_taking_starts_anew(tick):
  measured = Clock()
  with measured.phase("train"):
    tick(3)
  measured.take()
  tick(5)
  assert measured.take() == {"time/total": 5}


def test_a_phase_that_raises_is_counted(tick):
  measured = Clock()
  with pytest.raises(KeyError), measured.phase("outer"):
    tick(1)
    with measured.phase("inner"):
      tick(2)
      raise KeyError
  assert measured.take() == {"time/outer": 1, "time/inner": 2, "time/total": 3}


def test_other_threads_take_no_time_of_ours(tick):
  measured = Clock()

  def beside():
    with measured.phase("reward"):
      tick(2)

  with measured.phase("rollout"):
    thread = threading.Thread(target=beside)
    thread.start()
    thread.join()
    tick(1)
  assert measured.take() == {"time/rollout": 3, "time/total": 3}


def test_who_watches_is_told_which_phases_are_open():
  clock, told = Clock(), []
  clock.on_change = told.append
  with clock.phase("rollout"), clock.phase("reward"):
    pass
  assert told == [("rollout",), ("rollout", "reward"), ("rollout",), ()]
