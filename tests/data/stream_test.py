import collections

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain_jax.data.stream import PromptStream
from posttrain_jax.types import InputError, Prompt

PROMPTS = [Prompt(i, (i,), {"answer": str(i)}) for i in range(5)]


def names(prompts):
  return [(prompt.index, prompt.attempt) for prompt in prompts]


def test_each_epoch_has_every_prompt_once_and_counts_its_attempt():
  drawn = names(PromptStream(PROMPTS, seed=0).next(20))
  for epoch in range(4):
    assert sorted(drawn[5 * epoch : 5 * epoch + 5]) == [(i, epoch) for i in range(5)]


def test_epochs_are_shuffled_each_in_its_own_way():
  drawn = [index for index, _ in names(PromptStream(PROMPTS, seed=0).next(50))]
  orders = {tuple(drawn[start : start + 5]) for start in range(0, 50, 5)}
  assert len(orders) > 5  # ten of 120 orders: fewer than six different ones in 1 of 10⁷ cases
  assert drawn != [index for index, _ in names(PromptStream(PROMPTS, seed=1).next(50))]


@settings(deadline=None, max_examples=30)  # the machine's speed is not what is tested
@given(st.lists(st.integers(0, 13), min_size=1, max_size=6), st.integers(0, 5))
def test_cutting_the_stream_into_draws_and_resuming_change_nothing(draws, resumed_at):
  prompts = [Prompt(i, (i,), {}) for i in range(30)]  # of few, Grain takes milliseconds to find one
  whole = names(PromptStream(prompts, seed=7).next(sum(draws)))
  stream, pieces = PromptStream(prompts, seed=7), []
  for i, n in enumerate(draws):
    if i == resumed_at:
      stream = PromptStream(prompts, seed=7, position=stream.position)
    pieces += names(stream.next(n))
  assert pieces == whole


def test_a_draw_larger_than_the_data_set_repeats_no_prompt_of_an_epoch():
  drawn = names(PromptStream(PROMPTS, seed=0, position=3).next(9))  # 2 of epoch 0, 5 of epoch 1, 2 of epoch 2
  assert collections.Counter(attempt for _, attempt in drawn) == {0: 2, 1: 5, 2: 2}
  assert len(set(drawn)) == 9


def test_epoch_is_that_of_the_next_prompt():
  stream = PromptStream(PROMPTS, seed=0)
  stream.next(4)
  assert stream.epoch == 0
  stream.next(1)
  assert (stream.epoch, stream.position) == (1, 5)
  assert stream.next(1)[0].attempt == 1


def test_prompts_come_as_they_are():
  (prompt,) = PromptStream(PROMPTS, seed=0).next(1)
  assert prompt == PROMPTS[prompt.index]


@pytest.mark.parametrize("n", [1, 4, 9])
def test_retired_prompts_are_passed_over_and_the_others_keep_their_places(n):
  whole = names(PromptStream(PROMPTS, seed=0).next(60))
  stream = PromptStream(PROMPTS, seed=0)
  drawn = names(stream.next(4))
  stream.retired = {1, 3}
  while len(drawn) < 15:
    drawn += names(stream.next(n))
  left = whole[:4] + [(index, attempt) for index, attempt in whole[4:] if index not in (1, 3)]
  assert drawn == left[: len(drawn)]
  again = PromptStream(PROMPTS, seed=0, position=stream.position)
  again.retired = {1, 3}
  assert names(again.next(3)) == names(stream.next(3))


def test_nothing_is_left_when_all_are_retired():
  stream = PromptStream(PROMPTS, seed=0)
  assert not stream.exhausted
  stream.retired = range(5)
  assert stream.exhausted and stream.next(3) == [] and stream.position == 0
  stream.retired = range(1, 5)
  assert names(stream.next(2)) == [(0, 0), (0, 1)]


def test_no_prompts_are_refused():
  with pytest.raises(InputError, match="none to draw from"):
    PromptStream([], seed=0)
