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


def test_answers_to_a_prompt_share_its_copy_and_have_lanes_of_their_own():
  """A prompt of 6 tokens takes two pages, and the beginning of an answer takes one."""
  places = new_places()
  running = [request(0, sample) for sample in range(5)]
  found = [places.take(each) for each in running]
  assert [place.slot for place in found] == [0, 1, 2, 3, 4]
  assert [place.fresh for place in found] == [(0, 1), (), (), (), (6, 7)]  # a fifth answer: the prompt once more
  assert [place.pages for place in found] == [(2,), (3,), (4,), (5,), (8,)]
  assert [places.running[each].lane for each in running] == [0, 1, 2, 3, 4]
  assert (places.free, places.pages_in_use, places.prompt_tokens) == (1, 9, 10)


def test_what_is_full_gives_none_and_what_is_given_back_is_free():
  places = new_places()
  running = [request(prompt, 0) for prompt in range(3)]
  assert all(places.take(each) for each in running)
  assert places.free == 3 and places.take(request(3, 0)) is None  # slots, and no row
  assert not places.take(request(1, 1)).fresh  # beside another answer there is room
  places.give_back(running[0])
  found = places.take(request(3, 0))
  assert (found.slot, found.fresh, found.pages) == (0, (0, 1), (2,))
  for each in range(2, 4):
    assert places.take(request(1, each))
  assert places.free == 0 and places.take(request(1, 0)) is None


def test_a_copy_is_kept_until_its_last_answer_ends():
  places = new_places(rows=1)
  first, second = request(0, 0), request(0, 1)
  places.take(first), places.take(second)
  places.give_back(first)
  assert places.take(request(1, 0)) is None and not places.take(request(0, 2)).fresh
  places.give_back(second)
  assert places.take(request(1, 0)) is None


def test_an_answer_begins_if_pages_are_left_for_those_that_run():
  """Of 8 pages, an answer and its prompt take 3. One stays free for each answer that may grow."""
  places = new_places(per_shard=8)
  assert places.take(request(0, 0))
  assert places.take(request(1, 0))  # 3 + 1 of 5 free pages
  assert places.take(request(2, 0)) is None and places.take(request(0, 1)) is None
  assert new_places(per_shard=3).take(request(0, 0))  # alone, it needs no reserve


def test_a_pool_for_the_longest_answers_lets_all_slots_run():
  """Answers of at most 4 tokens have one page from the beginning and need no more."""
  places = new_places(per_shard=6 + 2 * 2, cap=4)
  assert all(places.take(request(sample // 3, sample % 3)) for sample in range(6))
  assert (places.free, places.pages_in_use) == (0, 10)


def test_a_resumed_answer_gets_pages_for_all_its_tokens():
  assert len(new_places().take(request(0, 0, drawn=5)).pages) == 3  # 9 tokens after the dispatch
  assert len(new_places().take(request(0, 0, drawn=11)).pages) == 3  # the cap is 12


def test_when_pages_run_out_the_youngest_answer_leaves():
  """Three answers with a page each need another one. Of 8 pages, one is free; the youngest's page makes two."""
  places = new_places(per_shard=8, cap=100)
  running = [request(0, sample) for sample in range(3)]
  assert all(places.take(each) for each in running)
  for each, drawn in zip(running, (3, 1, 1)):
    each.tokens.append(np.zeros(drawn, np.int32))
  assert places.pages_in_use == 5 and list(places.victims()) == []  # 3 pages are free
  others = [request(1, 0, length=1), request(1, 1, length=1)]
  places._pages.take(0, 2)
  left = []
  for each in places.victims():
    left.append(each)
    places.give_back(each)
  assert left == [running[2]] and others[0] not in places.running
  places.grow()
  assert [len(places.running[each].pages) for each in running[:2]] == [2, 2]
  assert places.pages_in_use == 2 + 4 + 2


def test_the_last_answer_never_leaves():
  places = new_places(per_shard=5)  # two for the prompt, three for 12 tokens
  only = request(0, 0)
  for drawn in (0, 4, 4):
    only.tokens.append(np.zeros(drawn, np.int32))
    if not drawn:
      assert places.take(only)
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
      place, has = places.take(running[-1]), places.running[running[-1]]
      assert place.slot == has.shard * 8 + has.slot and has.slot < 6
      assert place.pages == (has.shard * 100 + has.pages[0],) and len(has.pages) == 1
      assert has.copy[0] == has.shard and has.lane % 3 == sample
  lanes = {(has.shard, has.lane) for has in places.running.values()}
  assert len(lanes) == 18 and places.free == 0
  for each in running:
    places.give_back(each)
  assert (places.free, places.pages_in_use) == (18, 0)
  # Where most is free: 6, 6 and 6 slots, then 5, 6 and 6, then 5, 5 and 6.
  assert [places.take(request(prompt, 0)).slot // 8 for prompt in range(3)] == [0, 1, 2]


def test_a_prompt_whose_device_is_full_gets_a_copy_on_another():
  places = new_places(slots=16, rows=4, shards=2, share=16)
  found = [places.take(request(0, sample)) for sample in range(9)]
  assert [place.slot // 8 for place in found] == [0] * 8 + [1]
  assert found[8].fresh == (100, 101)


@pytest.mark.parametrize("share", [1, 3])
def test_any_order_of_ends_leaves_everything_free(share):
  places = new_places(rows=8, share=share)
  running = [request(prompt, sample) for prompt in range(2) for sample in range(3)]
  for _ in range(3):
    for each in running:
      assert places.take(each)
    for each in running[::2] + running[1::2]:
      places.give_back(each)
    assert (places.free, places.pages_in_use, places.copies) == (6, 0, {})
