"""Tests which requests run, in which order, and what is returned; without a device."""

import numpy as np
import pytest

from posttrain_jax.sampling.ledger import Ledger
from posttrain_jax.sampling.pages import Pages
from posttrain_jax.sampling.places import Places
from posttrain_jax.sampling.requests import Request
from posttrain_jax.types import Answer, FinishReason, Prompt


def prompt(index, length=2):
  return Prompt(index, (1,) * length, {})


def answer(count, reason):
  zeros = np.zeros(count, np.float32)
  return Answer(np.arange(count, dtype=np.int32), zeros, zeros, np.zeros(count, np.int32), reason)


def new_places(*, slots, rows):
  pages = Pages(per_shard=100, shards=1, page=4)
  return Places(slots=slots, slots_per_shard=8, rows=rows, shards=1, share=2, pages=pages, steps=2, cap=9)


def new_ledger(*, slots=4):
  places = new_places(slots=slots, rows=8)
  return Ledger(places), places


def begin(ledger):
  """Prepares a dispatch as the engine does if nothing has to be computed; returns (prompt, sample, slot) begun."""
  ledger.place()
  begun = ledger.beginning
  ledger.begin(begun.values())
  return [(request.prompt.index, request.sample, slot) for slot, request in begun.items()]


def end(ledger, slot, reason=FinishReason.EOS):
  return ledger.end(ledger.running[slot], reason)


def test_requests_begin_in_order_and_a_group_comes_back_with_its_last_answer():
  ledger, places = new_ledger()
  ledger.add(prompt(0), [None] * 3)
  ledger.add(prompt(1), [None] * 2)
  assert (ledger.waiting, ledger.unfinished) == (5, 5)
  assert begin(ledger) == [(0, 0, 0), (0, 1, 1), (0, 2, 2), (1, 0, 3)]
  assert (ledger.waiting, ledger.unfinished, len(places.placed)) == (1, 5, 4)
  assert end(ledger, 2) == [] and end(ledger, 0, FinishReason.LENGTH) == [] and ledger.ended == 2
  assert begin(ledger) == [(1, 1, 0)]
  (group,) = end(ledger, 1)
  assert group.prompt == prompt(0)
  assert [each.finish_reason for each in group.answers] == [FinishReason.LENGTH, FinishReason.EOS, FinishReason.EOS]
  assert ledger.unfinished == 2


def test_a_request_draws_when_it_begins():
  ledger, places = new_ledger(slots=2)
  ledger.add(prompt(0), [None] * 3)
  placed = ledger.place()
  assert [request.sample for request in placed] == [0, 1] and ledger.place() == []
  assert (list(ledger.beginning), ledger.running, ledger.waiting, ledger.unfinished) == ([0, 1], {}, 1, 3)
  ledger.begin(placed[1:])
  assert (list(ledger.beginning), list(ledger.running)) == ([0], [1])
  assert [places.placed[request].begun for request in placed] == [False, True]


def test_resumed_answers_go_before_the_queue():
  ledger, _ = new_ledger(slots=1)
  ledger.add(prompt(0), [None] * 2)
  assert begin(ledger) == [(0, 0, 0)]
  ledger.add(prompt(1), [answer(3, FinishReason.SUSPENDED)])
  assert [request.prompt.index for request in ledger.interrupted] == [1]
  assert [request.prompt.index for request in ledger.in_line()] == [1, 0]
  end(ledger, 0)
  assert begin(ledger) == [(1, 0, 0)]
  (group,) = end(ledger, 0)
  np.testing.assert_array_equal(group.answers[0].tokens, [0, 1, 2])
  assert begin(ledger) == [(0, 1, 0)]


def test_a_prompt_is_kept_as_long_as_answers_of_its_group_wait():
  ledger, places = new_ledger(slots=1)
  ledger.add(prompt(0), [None] * 2)
  ledger.add(prompt(1), [None])
  begin(ledger)
  (first,) = places.copies.values()
  end(ledger, 0)
  assert list(places.copies.values()) == [first]
  begin(ledger)
  assert list(places.copies.values()) == [first] and first.readers == 1
  end(ledger, 0)
  assert places.copies == {}


def test_a_group_that_is_taken_in_again_keeps_its_finished_answers():
  ledger, _ = new_ledger()
  ended = answer(2, FinishReason.EOS)
  ledger.add(prompt(0), [ended, answer(1, FinishReason.SUSPENDED), answer(0, FinishReason.SUSPENDED)])
  assert [request.sample for request in ledger.interrupted] == [1]
  assert [request.sample for request in ledger.queue] == [2]
  assert begin(ledger) == [(0, 1, 0), (0, 2, 1)]
  assert end(ledger, 1, FinishReason.LENGTH) == []
  (group,) = end(ledger, 0, FinishReason.LENGTH)
  assert group.answers[0] is ended
  assert [len(each.tokens) for each in group.answers] == [2, 1, 0]


def test_all_is_given_back_in_the_order_of_submission():
  ledger, places = new_ledger(slots=2)
  for index in (5, 3, 4):
    ledger.add(prompt(index), [None] * 2)
  begin(ledger)
  end(ledger, 0)
  groups = ledger.take_all()
  assert [group.prompt.index for group in groups] == [5, 3, 4]
  reasons = [[each.finish_reason for each in group.answers] for group in groups]
  assert reasons == [[FinishReason.EOS, FinishReason.SUSPENDED]] + [[FinishReason.SUSPENDED] * 2] * 2
  assert (ledger.unfinished, ledger.running, ledger.beginning, places.placed) == (0, {}, {}, {})
  assert places.copies == {} and places.pages_in_use == 0
  assert ledger.take_all() == []
  ledger.add(prompt(5), groups[0].answers)  # no trace of it was left
  assert (ledger.unfinished, ledger.ended) == (1, 0)


def test_a_cancelled_group_leaves_no_trace_and_the_others_stay():
  ledger, places = new_ledger(slots=3)
  for index in (5, 3, 4):
    ledger.add(prompt(index), [None] * 2)
  begin(ledger)
  assert ledger.cancel((3, 0)) == [2] and ledger.cancel((4, 0)) == []
  assert [request.prompt.index for request in places.placed] == [5, 5] and ledger.waiting == 0
  assert {name[1] for name in places.copies} == {(5, 0)}
  assert end(ledger, 0) == [] and len(end(ledger, 1)) == 1
  assert (ledger.unfinished, places.pages_in_use, places.copies) == (0, 0, {})
  with pytest.raises(KeyError):
    ledger.cancel((3, 0))
  ledger.add(prompt(3), [None])


def test_a_group_is_cancelled_before_its_answers_draw():
  ledger, places = new_ledger(slots=2)
  ledger.add(prompt(0), [answer(1, FinishReason.SUSPENDED), None, None])
  ledger.place()
  assert ledger.cancel((0, 0)) == [] and places.placed == {} and ledger.unfinished == 0


def test_a_group_cannot_be_here_twice():
  ledger, _ = new_ledger()
  ledger.add(prompt(3), [None])
  with pytest.raises(ValueError, match="prompt 3 is under way already at attempt 0"):
    ledger.add(prompt(3), [None])
  ledger.add(Prompt(3, (1, 2), {}, attempt=1), [None])
  assert [request.group for request in ledger.queue] == [(3, 0), (3, 1)]


def test_a_request_that_loses_its_place_goes_on_before_all_others():
  """Its prompt's pages stay."""
  ledger, places = new_ledger(slots=2)
  ledger.add(prompt(0), [None] * 2)
  ledger.add(prompt(1), [None])
  begin(ledger)
  ledger.running[1].tokens.append(np.arange(3, dtype=np.int32))
  for request in ledger.running.values():  # the first has no tokens yet
    ledger.preempt(request)
  assert (ledger.waiting, ledger.unfinished, places.placed) == (3, 3, {})
  assert [request.sample for request in ledger.interrupted] == [1]
  assert [(request.prompt.index, request.sample) for request in ledger.queue] == [(0, 0), (1, 0)]
  (copy,) = places.copies.values()
  assert copy.readers == 0 and begin(ledger) == [(0, 1, 0), (0, 0, 1)] and copy.readers == 2
  for slot in (0, 1):
    groups = end(ledger, slot, FinishReason.LENGTH)
  assert [len(each.tokens) for each in groups[0].answers] == [0, 3]


def test_no_place_leaves_requests_waiting():
  places = new_places(slots=4, rows=1)
  ledger = Ledger(places)
  ledger.add(prompt(0), [None])
  ledger.add(prompt(1), [None])
  assert begin(ledger) == [(0, 0, 0)]  # one row, which prompt 0 has
  assert begin(ledger) == [] and len(places.placed) == 1
  end(ledger, 0)
  assert begin(ledger) == [(1, 0, 0)]
  assert isinstance(ledger.running[0], Request)
