import math

import numpy as np
import pytest

from posttrain_jax.data.preference_rows import judgement
from posttrain_jax.data.prompts import Row
from posttrain_jax.evaluation.labelled_pairs import by_pair, models_of, read_labels, wins_of
from posttrain_jax.types import InputError


def label(prompt="q", chosen="a b", rejected="c", models=("x", "y"), **more):
  return dict(prompt=prompt, chosen=chosen, rejected=rejected, chosen_from=models[0], rejected_from=models[1], **more)


def rows(*columns):
  return [Row(each, f"labels.jsonl:{line}") for line, each in enumerate(columns, 1)]


def test_wins_ties_and_losses_are_counted_by_prompt():
  # q1: a win and a loss of x, so half a win. q2: a tie. q3: a win.
  given = rows(
    label("q1"), label("q1", models=("y", "x")), label("q2", tie=True), label("q3", shown_first="chosen"), label("q4")
  )
  labels, alike = read_labels(given)
  found = by_pair(labels)["x", "y"].result(seed=0)
  assert alike == 0 and found.win_rate.problems == 4
  assert found.win.mean == (0.5 + 0 + 1 + 1) / 4
  assert found.tie.mean == 1 / 4 and found.loss.mean == 0.5 / 4
  assert found.win_rate.mean == (0.5 + 0.5 + 1 + 1) / 4
  # Of q1 the first answer is once longer by a word, once shorter.
  assert found.shorter_by.mean == (0 - 1 - 1 - 1) / 4
  assert found.first_place.mean == 1.0 and found.first_place.problems == 1


def test_a_ranking_is_a_label_of_each_two_answers():
  ranked = {"prompt": "q", "answers": ["a", "b", "c"], "ranks": [0, 1, 1], "models": ["x", "y", "z"]}
  labels, _ = read_labels(rows(ranked))
  assert [(each.models, each.outcome) for each in labels] == [(("x", "y"), 1), (("x", "z"), 1), (("y", "z"), 0.5)]
  assert all(math.isnan(each.first_place) for each in labels)
  assert judgement(ranked).ranks == (0, 1, 1)  # the same row is preference data


def test_several_raters_give_shares():
  # Two of three raters prefer x; then they are at odds; then all prefer y.
  shares = (label("q1", probability=2 / 3), label("q2", probability=0.5), label("q3", models=("y", "x"), probability=1))
  found = by_pair(read_labels(rows(*shares))[0])["x", "y"].result(seed=0)
  assert found.win_rate.mean == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
  assert [found.win.mean, found.tie.mean, found.loss.mean] == pytest.approx([1 / 3] * 3)


def test_wins_are_laid_out_by_question():
  labels, _ = read_labels(rows(label("q1"), label("q2", models=("y", "x")), label("q2", tie=True)))
  assert models_of(labels) == ["x", "y"]
  np.testing.assert_array_equal(wins_of(labels, ["x", "y"]), [[[0, 1], [0, 0]], [[0, 0.5], [1.5, 0]]])


def test_answers_may_be_messages():
  said = [{"role": "assistant", "content": "one two three"}]
  labels, _ = read_labels(rows(label(prompt=[{"role": "user", "content": "q"}], chosen=said)))
  assert labels[0].shorter == -2


def test_two_answers_of_one_model_are_left_out_and_counted():
  labels, alike = read_labels(rows(label(models=("x", "x")), label()))
  assert (len(labels), alike) == (1, 1)
  with pytest.raises(InputError, match=r"labels\.jsonl: no pair of answers of two models"):
    read_labels(rows(label(models=("x", "x"))))


@pytest.mark.parametrize(
  ("columns", "message"),
  [
    ({"prompt": "q", "chosen": "a", "rejected": "b"}, "no 'chosen_from' and no 'rejected_from' among the columns"),
    (label(models=("x", 3)), "a model's name is 3, expected text"),
    (label(tie="yes"), "expected 'tie' as true or false"),
    (label(probability=0.3), "probability is 0.3, expected a number from 0.5 to 1"),
    (label(shown_first="left"), "'shown_first' as 'chosen' or 'rejected'"),
    ({"prompt": "q", "answers": ["a"], "ranks": [0, 1], "models": ["x", "y"]}, "lists .* of one length"),
  ],
)
def test_a_row_of_another_form_is_named(columns, message):
  with pytest.raises(InputError, match=rf"^labels\.jsonl:1: .*{message}"):
    read_labels(rows(columns))
