import math

import numpy as np
import pytest

from posttrain_jax.data.rejection import Candidates, select
from posttrain_jax.types import InputError

NAN = math.nan


def chosen(answers, scores, **options):
  rows, counts = select([Candidates("p", answers, scores)], **options)
  assert counts["candidates"] == sum(
    counts[name] for name in ("kept", "invalid", "duplicates", "below_threshold", "surplus")
  )
  return [row["completion"] for row in rows], {name: count for name, count in counts.items() if count}


def test_the_best_of_each_prompt_is_kept_with_the_columns_of_its_row():
  first = Candidates("p", ["a", "b", "c"], [0.1, 0.9, 0.5], {"id": 7, "prompt": "other"})
  second = Candidates([{"role": "user", "content": "q"}], ["d", "e"], np.array([2.0, 1.0], np.float32))
  rows, counts = select([first, second])
  assert rows == [
    {"id": 7, "prompt": "p", "completion": "b", "score": 0.9},
    {"prompt": [{"role": "user", "content": "q"}], "completion": "d", "score": 2.0},
  ]
  assert counts == {
    "prompts": 2,
    "candidates": 5,
    "kept": 2,
    "invalid": 0,
    "duplicates": 0,
    "below_threshold": 0,
    "surplus": 3,
    "prompts_without": 0,
  }


def test_ties_go_to_what_was_drawn_first():
  assert chosen(["a", "b", "c", "d"], [1, 2, 2, 1], keep=3)[0] == ["b", "c", "a"]


def test_no_verdict_is_never_chosen():
  texts, counts = chosen(["a", "b", "c"], [NAN, -5.0, NAN], keep=3)
  assert texts == ["b"] and counts == {"prompts": 1, "candidates": 3, "kept": 1, "invalid": 2}
  texts, counts = chosen(["a"], [NAN], threshold=-math.inf)
  assert texts == [] and counts == {"prompts": 1, "candidates": 1, "invalid": 1, "prompts_without": 1}


def test_a_threshold_is_reached_by_its_own_value():
  texts, counts = chosen(["a", "b", "c"], [1.0, 0.5, 0.4], keep=3, threshold=0.5)
  assert texts == ["a", "b"] and counts["below_threshold"] == 1


def test_repeated_answers_are_removed_before_the_best_are_taken():
  answers, scores = [" a", "b", "a\n", "c"], [3.0, 1.0, 4.0, 2.0]
  texts, counts = chosen(answers, scores, keep=2)
  assert texts == ["a\n", "c"] and counts["duplicates"] == 1 and counts["surplus"] == 1
  assert chosen(answers, scores, keep=2, dedupe=False)[0] == ["a\n", " a"]
  # A repetition without a verdict repeats nothing.
  assert chosen(["a", "a"], [NAN, 1.0])[1] == {"prompts": 1, "candidates": 2, "kept": 1, "invalid": 1}


@pytest.mark.parametrize("options", [dict(keep=0), dict(threshold=NAN)])
def test_settings_that_mean_nothing_are_refused(options):
  with pytest.raises(InputError, match="rejection: keep"):
    select([], **options)


def test_as_many_scores_as_answers():
  with pytest.raises(InputError, match="2 answers and 1 scores"):
    select([Candidates("p", ["a", "b"], [1.0])])
