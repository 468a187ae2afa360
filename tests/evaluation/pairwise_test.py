"""Tests that pairs are compared in both orders, and for answers of equal length."""

import numpy as np
import pytest

from posttrain_jax.evaluation.pairwise import equal_length_rate, judge_pairs
from posttrain_jax.types import InputError


def longer(pairs):
  """Prefers the longer answer."""
  return [0.5 + np.sign(len(a.split()) - len(b.split())) / 2 for _, a, b in pairs]


def test_wins_ties_and_losses_are_shares_of_pairs():
  # Of four pairs one is a loss, one a tie and two are wins.
  judged = judge_pairs(["q", "r"], [["a", "a b"], ["a b", "a b c"]], [["a b", "c d"], ["a", "a"]], longer)
  found = judged.result()
  assert [found.win.mean, found.tie.mean, found.loss.mean] == [0.5, 0.25, 0.25]
  assert found.win_rate.mean == 0.625 and found.first_place.mean == 0.5
  assert found.shorter_by.mean == pytest.approx((1 + 0 - 1 - 2) / 4)
  assert found.win_rate.problems == 2 and found.win_rate.low == 0.25 and found.win_rate.high == 1.0
  parts = [judged.of(np.array(mask)).result() for mask in ([True, False], [False, True])]
  assert [(each.win.mean, each.tie.mean, each.loss.mean) for each in parts] == [(0.0, 0.5, 0.5), (1.0, 0.0, 0.0)]
  assert [each.shorter_by.mean for each in parts] == [0.5, -1.5]


def test_a_judge_of_places_finds_nothing_but_ties():
  found = judge_pairs(["q"] * 3, [["a"]] * 3, [["b"]] * 3, lambda pairs: [1.0] * len(pairs)).result()
  assert found.tie.mean == 1.0 and found.win_rate.mean == 0.5 and found.first_place.mean == 1.0


def test_the_judge_sees_the_question_and_both_orders():
  seen = []

  def judge(pairs):
    seen.extend(pairs)
    return [0.5] * len(pairs)

  judge_pairs([7], [["ours"]], [["theirs"]], judge)
  assert seen == [(7, "ours", "theirs"), (7, "theirs", "ours")]


def outcomes_of(model, length, count=4000):
  """Draws outcomes whose log-odds are `model` + `length` · tanh(shorter / its deviation)."""
  rng = np.random.default_rng(0)
  shorter = rng.normal(3.0, 4.0, count)
  odds = model + length * np.tanh(shorter / np.sqrt(np.mean(shorter**2)))
  return (rng.random(count) < 1 / (1 + np.exp(-odds))).astype(float), shorter


@pytest.mark.parametrize(("model", "length"), [(0.0, 2.0), (0.7, -1.5), (-1.0, 0.0)])
def test_the_rate_at_equal_length_is_that_of_the_model_alone(model, length):
  outcomes, shorter = outcomes_of(model, length)
  assert equal_length_rate(outcomes, shorter) == pytest.approx(1 / (1 + np.exp(-model)), abs=0.03)


def test_without_the_length_the_rate_would_be_another():
  outcomes, shorter = outcomes_of(0.0, 2.0)
  assert outcomes.mean() > 0.6 and equal_length_rate(outcomes, np.zeros_like(shorter)) > 0.6


def test_one_that_always_wins_has_a_rate_below_one():
  assert 0.98 < equal_length_rate(np.ones(50), np.zeros(50)) < 1.0
  assert equal_length_rate(np.full(50, 0.5), np.ones(50)) == pytest.approx(0.5)


@pytest.mark.parametrize(("ours", "theirs"), [([], []), ([["a"]], [["a", "b"]]), ([[]], [[]])])
def test_models_must_have_answered_equally_often(ours, theirs):
  with pytest.raises(InputError, match=r"comparison: \d questions, .*expected some questions and equally many answers"):
    judge_pairs(["q"] * len(ours), ours, theirs, longer)
