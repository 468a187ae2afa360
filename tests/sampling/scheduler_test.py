"""Tests what is prepared before a dispatch, with a device that only notes what it is asked."""

import types

import numpy as np
import pytest

from posttrain_jax.sampling.ledger import Ledger
from posttrain_jax.sampling.pages import Pages
from posttrain_jax.sampling.places import Places
from posttrain_jax.sampling.requests import EngineStats
from posttrain_jax.sampling.scheduler import Scheduler
from posttrain_jax.types import FinishReason, Prompt


class Device:
  """Notes its calls in order."""

  layout = types.SimpleNamespace(chunk=8, width=2, page=4)

  def __init__(self):
    self.calls = []

  def prefill(self, params, chunks):
    self.calls.append(("prefill", [[int(chunk.tokens[0]) for chunk in shard] for shard in chunks]))

  def copy(self, sources, targets):
    self.calls.append(("copy", tuple(sources), tuple(targets)))

  def begin(self, begun, seed):
    self.calls.append(("begin", [(slot, request.prompt.index, request.sample) for slot, request in begun]))

  def end(self, slots):
    self.calls.append(("end", list(slots)))

  def save(self, pages):
    self.calls.append(("save", tuple(pages)))
    return "saved"

  def restore(self, saved, pages):
    self.calls.append(("restore", tuple(pages)))


class Case:
  """Holds a scheduler with all that it works on; a dispatch draws 4 tokens."""

  def __init__(self, *, per_shard=100, share=2, prefills=1, slots=6):
    pages = Pages(per_shard=per_shard, shards=1, page=4)
    self.places = Places(slots=slots, slots_per_shard=8, rows=6, shards=1, share=share, pages=pages, steps=4, cap=40)
    self.ledger, self.device, self.stats = Ledger(self.places), Device(), EngineStats()
    self._scheduler = Scheduler(self.device, self.ledger, self.places, prefills)

  def submit(self, index, length, count=1):
    self.ledger.add(Prompt(index, tuple(range(100 * index, 100 * index + length)), {}), [None] * count)

  def prepare(self):
    """Returns the device's calls before the next dispatch, which draws 4 tokens for all that run."""
    self.device.calls.clear()
    self._scheduler.prepare(None, 0, self.stats)
    for request in self.ledger.running.values():
      request.tokens.append(np.arange(4, dtype=np.int32))
    return list(self.device.calls)


@pytest.mark.parametrize("prefills", [1, 2])
def test_running_answers_wait_for_few_prefills(prefills):
  """A prompt of 40 tokens has five chunks, two a prefill."""
  case = Case(prefills=prefills)
  case.submit(0, 6)
  assert case.prepare() == [("prefill", [[0]]), ("begin", [(0, 0, 0)])]
  case.submit(1, 40)
  seen = [case.prepare() for _ in range(3)]
  calls = [("prefill", [[100, 108]]), ("prefill", [[116, 124]]), ("prefill", [[132]])]
  begin = ("begin", [(1, 1, 0)])
  assert seen == ([[calls[0]], [calls[1]], [calls[2], begin]] if prefills == 1 else [calls[:2], [calls[2], begin], []])
  assert (case.stats.prefills, case.stats.prefill_tokens) == (4, 5 + 39)


def test_if_nothing_runs_all_slots_are_filled():
  case = Case()
  case.submit(1, 40)
  case.submit(2, 6)
  assert [name for name, *_ in case.prepare()] == ["prefill"] * 3 + ["begin"]
  assert list(case.ledger.running) == [0, 1]


def test_a_prompt_that_is_needed_twice_is_prefilled_once_and_copied():
  case = Case()
  case.submit(1, 6, count=3)
  assert case.prepare() == [
    ("prefill", [[100]]),
    ("copy", (0, 1), (4, 5)),
    ("begin", [(0, 1, 0), (1, 1, 1), (2, 1, 2)]),
  ]


def test_a_prompt_in_line_is_ready_when_a_slot_is_free():
  case = Case(slots=1)
  case.submit(1, 6)
  case.submit(2, 6)
  assert case.prepare() == [("prefill", [[100, 200]]), ("begin", [(0, 1, 0)])]
  case.ledger.end(case.ledger.running[0], FinishReason.EOS)
  assert case.prepare() == [("begin", [(0, 2, 0)])]


def test_an_answer_that_had_to_leave_comes_back_as_it_was():
  """Two answers share a prompt of two pages in a pool of 10; each takes a page a dispatch."""
  case = Case(per_shard=10)
  case.submit(1, 6, count=2)
  calls = [case.prepare() for _ in range(5)]
  assert calls[4][:2] == [("save", (3, 5, 7, 9)), ("end", [1])] and case.stats.preemptions == 1
  case.ledger.end(case.ledger.running[0], FinishReason.EOS)
  assert [name for name, *_ in case.prepare()] == ["restore", "begin"]  # its prompt is still there
  assert case.stats.prefills == 1 and case.stats.recomputed_tokens == 0


def test_what_came_back_and_has_to_leave_before_it_draws_is_saved_again():
  """Its prompt's pages were given away, and prefilling them takes more than the prefill that others wait for."""
  case = Case(per_shard=100)
  case.submit(0, 6)
  case.submit(1, 40)
  case.prepare()
  interrupted = case.ledger.running[1]
  interrupted.saved = "saved"
  case.ledger.preempt(interrupted)
  (idle,) = (name for name, copy in case.places.copies.items() if not copy.readers)
  case.places.forget(idle[1])
  assert [name for name, *_ in case.prepare()] == ["restore", "prefill"]
  case.places.victims = lambda: iter([interrupted])
  assert [name for name, *_ in case.prepare()][:2] == ["save", "end"]
