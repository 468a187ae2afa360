import contextlib
import time

import jax
import pytest

from posttrain_jax.performance import timing
from posttrain_jax.performance.timing import Timed, peak_memory_gib, timed


def test_the_first_call_is_kept_apart(monkeypatch):
  clock, calls = [0.0], []
  monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

  def work(call):
    calls.append(call)
    clock[0] += 10.0 if call == 0 else call

  found = timed(work, 3)
  assert calls == [0, 1, 2, 3] and found == Timed(10.0, (1.0, 2.0, 3.0)) and found.median == 2.0


def test_a_call_ends_when_its_arrays_are_ready(monkeypatch):
  waited = []
  monkeypatch.setattr(jax, "block_until_ready", waited.append)
  timed(lambda call: f"arrays of call {call}", 1)
  assert waited == ["arrays of call 0", "arrays of call 1"]


def test_only_the_last_call_is_traced(monkeypatch):
  events = []

  @contextlib.contextmanager
  def trace(folder):
    events.append(folder)
    yield
    events.append("end")

  monkeypatch.setattr(timing.jax.profiler, "trace", trace)
  timed(events.append, 2, "folder")
  assert events == [0, 1, "folder", 2, "end"]


def test_the_record_has_median_and_extremes():
  assert Timed(4.00049, (0.5, 0.25, 1.0, 0.75)).record() == {
    "seconds": 0.625,
    "fastest_seconds": 0.25,
    "slowest_seconds": 1.0,
    "first_call_seconds": 4.0,
    "runs": 4,
  }


def test_peak_memory_is_the_devices_or_else_the_processs(monkeypatch):
  assert 0.01 < peak_memory_gib() < 1000  # of this process: JAX's CPU devices report none

  class Device:
    def memory_stats(self):
      return {"peak_bytes_in_use": 3 * 2**29}

  monkeypatch.setattr(jax, "devices", lambda: [Device()])
  assert peak_memory_gib() == pytest.approx(1.5)
