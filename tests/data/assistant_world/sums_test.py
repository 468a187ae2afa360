import itertools
import random

import pytest

from posttrain_jax.data.assistant_world import language, sums


def test_sums_have_no_carry():
  rng = random.Random(0)
  for steps in range(1, sums.MOST_STEPS + 1):
    for _ in range(50):
      text = sums.draw(rng, steps=steps)
      assert len(text.split()) == 1 + 2 * steps
      assert all(0 <= value <= 9 for value in sums.results(text))
      assert sums.results(text)[-1] == eval(text)


def test_there_are_110_steps():
  # Of a + b below ten there are 10 + 9 + ... + 1 = 55; so many a - b are not negative.
  assert len(sums.STEPS) == 110


def test_work_is_written_and_read():
  text = sums.written("3 + 4 - 2", itertools.repeat("english"))
  assert text == "first 3 + 4 = 7 , then 7 - 2 = 5 , so answer : 5"
  velan = sums.written("3 + 4 - 2", itertools.repeat("velan"))
  assert language.shares(velan)["velan"] == 1
  for each in (text, velan):
    assert sums.stated_answer(each) == 5 and sums.shows_work(each, "3 + 4 - 2")


@pytest.mark.parametrize(
  ("text", "answer"),
  [
    ("answer : 5", 5),
    ("Answer: 5", 5),
    ("answer : 4 , no , answer : 5", 5),
    ("<think> 3 + 4 = 7 </think> <answer> 7 </answer>", 7),
    ("answer : 55", 55),
    ("the answer is 5", None),
    ("answer : 5 - 2 = 3", None),  # a step, no answer
    ("answer :", None),
    ("", None),
  ],
)
def test_a_stated_answer_is_found(text, answer):
  assert sums.stated_answer(text) == answer


@pytest.mark.parametrize(
  "text",
  [
    "answer : 5",  # no work
    "3 + 4 = 7 , so answer : 5",  # a step is missing
    "3 + 4 = 8 , 8 - 2 = 6 , so answer : 5",  # wrong steps
    "7 - 2 = 5 , 3 + 4 = 7 , so answer : 5",  # another order
    "3 + 4 = 7 , 7 - 2 = 5 , 1 + 1 = 2 , so answer : 5",  # one too many
  ],
)
def test_work_that_is_not_the_sums_is_told_apart(text):
  assert not sums.shows_work(text, "3 + 4 - 2")


def test_a_fifth_of_the_sums_is_held_out():
  rng = random.Random(1)
  share = sum(sums.is_held_out(sums.draw(rng, steps=4)) for _ in range(1000)) / 1000
  assert 0.15 < share < 0.25
