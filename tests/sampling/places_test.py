"""Tests which slot and which prompt's row a request gets, on one device and on several."""

import pytest

from posttrain_jax.sampling.places import Places
from posttrain_jax.sampling.requests import Request
from posttrain_jax.types import Prompt


def request(prompt, sample):
  return Request(Prompt(prompt, (1, 2), {}), sample)


def one_device(**sizes):
  return Places(**(dict(slots=6, slots_per_shard=8, rows=3, shards=1, share=4) | sizes))


def test_answers_to_a_prompt_share_its_row_and_have_lanes_of_their_own():
  places = one_device()
  found = [places.take(request(0, sample)) for sample in range(4)]
  assert [place.slot for place in found] == [0, 1, 2, 3]
  assert [place.row for place in found] == [0] * 4 and [place.lane for place in found] == [0, 1, 2, 3]
  assert [place.fresh for place in found] == [True, False, False, False]
  other = places.take(request(0, 4))  # a fifth answer: the prompt once more
  assert (other.row, other.lane, other.fresh) == (1, 4, True)
  assert places.free == 1


def test_what_is_full_gives_none_and_what_is_given_back_is_free():
  places = one_device()
  running = [request(prompt, 0) for prompt in range(3)]
  assert all(places.take(each) for each in running)
  assert places.free == 3 and places.take(request(3, 0)) is None  # slots, and no row
  assert not places.take(request(1, 1)).fresh  # beside another answer there is room
  places.give_back(running[0])
  found = places.take(request(3, 0))
  assert (found.slot, found.row, found.fresh) == (0, 0, True)
  for each in range(2, 4):
    assert places.take(request(1, each))
  assert places.free == 0 and places.take(request(1, 0)) is None


def test_a_row_is_kept_until_its_last_answer_ends():
  places = one_device(rows=1)
  first, second = request(0, 0), request(0, 1)
  places.take(first), places.take(second)
  places.give_back(first)
  assert places.take(request(1, 0)) is None and not places.take(request(0, 2)).fresh
  places.give_back(second)
  assert places.take(request(1, 0)) is None


def test_slots_and_rows_of_a_request_are_on_one_device():
  """Makes three devices of eight rows of slots, of which six are used on each, and two rows of prompts each."""
  places = Places(slots=18, slots_per_shard=8, rows=6, shards=3, share=3)
  running, taken = [], set()
  for prompt in range(6):
    for sample in range(3):
      running.append(request(prompt, sample))
      place = places.take(running[-1])
      assert place.slot // 8 == place.row // 2 and place.slot % 8 < 6
      assert place.lane == place.row % 2 * 3 + sample
      taken.add((place.slot, place.row // 2, place.lane))
  assert len(taken) == 18 and places.free == 0
  for each in running:
    places.give_back(each)
  assert places.free == 18
  # Where most is free: 6, 6 and 6 slots, then 5, 6 and 6, then 5, 5 and 6.
  assert [places.take(request(prompt, 0)).row // 2 for prompt in range(3)] == [0, 1, 2]


def test_a_prompt_whose_device_is_full_gets_a_row_on_another():
  places = Places(slots=16, slots_per_shard=8, rows=4, shards=2, share=16)
  found = [places.take(request(0, sample)) for sample in range(9)]
  assert [place.slot // 8 for place in found] == [0] * 8 + [1]
  assert found[8].fresh and found[8].row == 2 and found[8].lane == 8


@pytest.mark.parametrize("share", [1, 3])
def test_any_order_of_ends_leaves_everything_free(share):
  places = Places(slots=6, slots_per_shard=8, rows=8, shards=1, share=share)
  running = [request(prompt, sample) for prompt in range(2) for sample in range(3)]
  for _ in range(3):
    for each in running:
      assert places.take(each)
    for each in running[::2] + running[1::2]:
      places.give_back(each)
    assert places.free == 6
