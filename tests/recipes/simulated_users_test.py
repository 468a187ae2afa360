"""Tests what simulated users say of answers."""

import pytest

from posttrain_jax.data.assistant_world.answers import AnswerWriter, Author
from posttrain_jax.data.assistant_world.questions import RequestPart, draw_requests
from posttrain_jax.data.assistant_world.requests import RequestKind
from posttrain_jax.data.assistant_world.taste import OTHER_TASTE, utility
from posttrain_jax.recipes.simulated_users import Habits, vote
from posttrain_jax.types import InputError
from tests.data.assistant_world.small_world import WORLD

REQUESTS = draw_requests(WORLD, RequestKind.FACT, RequestPart.TRAIN, 60)
WRITER = AnswerWriter(WORLD, 0)
ANSWERS = [[WRITER.answer(request, Author.CAREFUL), WRITER.wrong(request)] for request in REQUESTS]


def votes(answers=ANSWERS, **habits):
  given = Habits(**{"votes": 1.0, "edits": 0.0, "noise": 0.0, **habits})
  return [vote(request, texts, given, WORLD, seed=i) for i, (request, texts) in enumerate(zip(REQUESTS, answers))]


def test_votes_follow_the_users_taste():
  found = votes()
  assert all(left is not None and left.edited is None for left in found)
  assert {left.shown for left in found} == {(0, 1), (1, 0)}  # sides are drawn
  seen = [(request, texts, left) for request, texts, left in zip(REQUESTS, ANSWERS, found) if left.better is not None]
  assert len(seen) > 30
  for request, texts, left in seen:
    shown = [utility(request, texts[number], OTHER_TASTE) for number in left.shown]
    assert shown[left.better] >= shown[1 - left.better] + 1.0  # smaller differences are not seen


def test_some_vote_and_some_edit():
  poor = [[wrong, "mm mm mm ."] for _, wrong in ANSWERS]
  found = [left for left in votes(poor, votes=0.5, edits=0.5) if left is not None]
  assert 15 < len(found) < 45
  assert 0 < sum(left.edited is not None for left in found) < len(found)


def test_noise_makes_them_err():
  assert votes() == votes()
  assert votes(noise=100.0) != votes()


def test_who_sees_one_answer_or_two_equal_ones_says_nothing():
  habits = Habits(votes=1.0, edits=1.0, noise=1.0)
  assert vote(REQUESTS[0], ["mm ."], habits, WORLD, seed=0) is None
  assert vote(REQUESTS[0], ["mm ."] * 3, habits, WORLD, seed=0) is None


def test_what_is_refused():
  with pytest.raises(InputError, match=r"habits.votes: 1.5, expected a share from 0 to 1"):
    Habits(votes=1.5, edits=0.0, noise=1.0)
  with pytest.raises(InputError, match=r"habits.noise: -1.0, expected 0 or more"):
    Habits(votes=1.0, edits=0.0, noise=-1.0)
