"""Tests which slot, row and pages a request gets, on one device and on several."""

import numpy as np
import pytest

from posttrain_jax.sampling.pages import Pages
from posttrain_jax.sampling.places import Places
from posttrain_jax.sampling.requests import Request
from posttrain_jax.types import Prompt


def request(prompt, sample, drawn=0, length=6):
  made = Request(Prompt(prompt, (1,) * length, {}), sample)
  made.tokens.append(np.zeros(drawn, np.int32))
  return made


def new_places(*, per_shard=100, **sizes):
  """Makes places on one device with pages of 4 tokens, where a dispatch draws 4 tokens."""
  sizes = dict(slots=6, slots_per_shard=8, rows=3, shards=1, share=4, steps=4, cap=12) | sizes
  return Places(**sizes, pages=Pages(per_shard=per_shard, shards=sizes["shards"], page=4))


def take(places, *requests):
  """Gives requests places and returns (slot, the prompt's pages, the answer's pages), counted on their shard."""
  found = []
  for each in requests:
    slot = places.take(each)
    found.append((slot, tuple(places.copies[places.placed[each].copy].pages), tuple(places.placed[each].pages)))
  return found


def test_answers_to_a_prompt_share_its_copy_and_have_lanes_of_their_own():
  """A prompt of 6 tokens takes two pages, and the beginning of an answer takes one."""
  places = new_places()
  placed = [request(0, sample) for sample in range(5)]
  # A fifth answer needs the prompt once more.
  first = [(slot, (0, 1), (slot + 2,)) for slot in range(4)]
  assert take(places, *placed) == [*first, (4, (6, 7), (8,))]
  assert [places.placed[each].lane for each in placed] == [0, 1, 2, 3, 4]
  assert [copy.readers for copy in places.copies.values()] == [4, 1]
  assert (places.pages_in_use, places.prompt_tokens) == (9, 10)


def test_what_is_full_gives_none_and_what_is_given_back_is_free():
  places = new_places()
  placed = [request(prompt, 0) for prompt in range(3)]
  take(places, *placed)
  assert places.take(request(3, 0)) is None  # slots are free, and no row
  assert places.take(request(1, 1)) == 3 and len(places.copies) == 3  # beside another answer there is room
  places.give_back(placed[0], keep=False)
  assert take(places, request(3, 0)) == [(0, (0, 1), (2,))]
  for each in range(2, 4):
    assert places.take(request(1, each)) is not None
  assert len(places.placed) == 6 and places.take(request(1, 0)) is None


def test_a_copy_is_kept_until_its_last_answer_ends():
  places = new_places(rows=1)
  first, second = request(0, 0), request(0, 1)
  take(places, first, second)
  places.give_back(first, keep=False)
  assert places.take(request(1, 0)) is None and places.take(request(0, 2)) == 0 and len(places.copies) == 1
  places.give_back(second, keep=False)
  assert places.take(request(1, 0)) is None


def test_an_idle_copy_waits_for_its_group_without_a_row():
  places = new_places(rows=1)
  first, other = request(0, 0), request(1, 0)
  take(places, first)
  (copy,) = places.copies.values()
  copy.filled = 5
  places.give_back(first, keep=True)
  assert places.pages_in_use == 0 and copy.row is None
  assert take(places, other) == [(0, (2, 3), (4,))]  # the row is free, and the pages are not
  places.give_back(other, keep=False)
  take(places, request(0, 1))
  assert list(places.copies.values()) == [copy] and copy.complete and copy.readers == 1
  places.forget((0, 0))
  assert list(places.copies.values()) == [copy]  # it has a reader


def test_idle_copies_give_way_the_last_one_first():
  """Of 9 pages, two prompts and the next one's take two each, and its answer one."""
  places = new_places(per_shard=6)
  assert places.take_ahead(request(0, 0), 0) and places.take_ahead(request(1, 0), 0)
  assert (places.pages_in_use, len(places.copies)) == (0, 2)
  assert places.take_ahead(request(2, 0), 0) and not places.take_ahead(request(3, 0), 0)  # no page is free
  assert take(places, request(4, 0)) == [(0, (4, 5), (2,))]
  assert [name[1][0] for name in places.copies] == [0, 4]
  places.forget((0, 0))
  assert [name[1][0] for name in places.copies] == [4] and places.pages_in_use == 3


def test_prompts_ahead_leave_the_pages_that_answers_need_next():
  places = new_places(per_shard=6)
  take(places, request(0, 0))
  assert not places.take_ahead(request(1, 0, length=10), 0)  # 3 pages of 3, and the answer needs another one
  assert places.take_ahead(request(1, 0), 0)


def test_an_answer_begins_if_pages_are_left_for_those_that_run():
  """Of 8 pages, an answer and its prompt take 3. One stays free for each answer that may grow."""
  places = new_places(per_shard=8)
  take(places, request(0, 0), request(1, 0))  # 3 + 1 of 5 free pages
  assert places.take(request(2, 0)) is None and places.take(request(0, 1)) is None
  take(new_places(per_shard=3), request(0, 0))  # alone, it needs no reserve


def test_a_pool_for_the_longest_answers_lets_all_slots_run():
  """Answers of at most 4 tokens have one page from the beginning and need no more."""
  places = new_places(per_shard=6 + 2 * 2, cap=4)
  take(places, *[request(sample // 3, sample % 3) for sample in range(6)])
  assert (len(places.placed), places.pages_in_use) == (6, 10)


def test_a_resumed_answer_gets_pages_for_all_its_tokens():
  for drawn in (5, 11):  # 9 tokens after the dispatch, and the cap of 12
    assert len(take(new_places(), request(0, 0, drawn=drawn))[0][2]) == 3


def test_when_pages_run_out_the_youngest_answer_leaves():
  """Three answers with a page each need another one. Of 8 pages, one is free; the youngest's page makes two."""
  places = new_places(per_shard=8, cap=100)
  running = [request(0, sample) for sample in range(3)]
  take(places, *running)
  for each, drawn in zip(running, (3, 1, 1)):
    each.tokens.append(np.zeros(drawn, np.int32))
  assert places.pages_in_use == 5 and list(places.victims()) == []  # 3 pages are free
  others = [request(1, 0, length=1), request(1, 1, length=1)]
  places._pages.take(0, 2)
  left = []
  for each in places.victims():
    left.append(each)
    places.give_back(each, keep=False)
  assert left == [running[2]] and others[0] not in places.placed
  places.grow()
  assert [len(places.placed[each].pages) for each in running[:2]] == [2, 2]
  assert places.pages_in_use == 2 + 4 + 2


def test_the_last_answer_never_leaves():
  places = new_places(per_shard=5)  # two for the prompt, three for 12 tokens
  only = request(0, 0)
  for drawn in (0, 4, 4):
    only.tokens.append(np.zeros(drawn, np.int32))
    if not drawn:
      take(places, only)
    assert list(places.victims()) == []
    places.grow()
  assert places.pages_in_use == 5


def test_all_of_a_request_is_on_one_device():
  """Makes three devices of eight rows of slots, of which six are used on each, and two rows of prompts each."""
  places = new_places(slots=18, rows=6, shards=3, share=3)
  running = []
  for prompt in range(6):
    for sample in range(3):
      running.append(request(prompt, sample))
      slot, has = places.take(running[-1]), places.placed[running[-1]]
      assert slot == has.shard * 8 + has.slot == places.slot_of(running[-1]) and has.slot < 6
      assert places.pages_of(running[-1]) == (has.shard * 100 + has.pages[0],) and len(has.pages) == 1
      assert has.copy[0] == has.shard and has.lane % 3 == sample
  lanes = {(has.shard, has.lane) for has in places.placed.values()}
  assert len(lanes) == 18 and places.take(request(0, 3)) is None
  for each in running:
    places.give_back(each, keep=False)
  assert (places.placed, places.pages_in_use) == ({}, 0)
  # Where most is free: 6, 6 and 6 slots, then 5, 6 and 6, then 5, 5 and 6.
  assert [places.take(request(prompt, 0)) // 8 for prompt in range(3)] == [0, 1, 2]


def test_a_prompt_whose_device_is_full_gets_a_copy_on_another():
  places = new_places(slots=16, rows=4, shards=2, share=16)
  found = take(places, *[request(0, sample) for sample in range(9)])
  assert [slot // 8 for slot, _, _ in found] == [0] * 8 + [1]
  assert found[8][1] == (0, 1) and len(places.copies) == 2


@pytest.mark.parametrize("share", [1, 3])
def test_any_order_of_ends_leaves_everything_free(share):
  places = new_places(rows=8, share=share)
  running = [request(prompt, sample) for prompt in range(2) for sample in range(3)]
  for _ in range(3):
    take(places, *running)
    for each in running[::2] + running[1::2]:
      places.give_back(each, keep=False)
    assert (places.placed, places.pages_in_use, places.copies) == ({}, 0, {})
