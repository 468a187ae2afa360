import collections

import pytest

from posttrain_jax.data import arithmetic
from posttrain_jax.data.demonstrations import CAREFUL_CROWD, SYMBOLS
from posttrain_jax.data.graded_answers import GradingForm, grade, graded_answers
from posttrain_jax.data.labelled_rows import labelled_answer
from posttrain_jax.data.preference_rows import judgement
from posttrain_jax.data.preferences import Strength, read_comparisons
from posttrain_jax.data.prompts import PromptFormat, named_rows
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.types import InputError

PROBLEMS = arithmetic.problems(arithmetic.Split.TRAIN, per_difficulty=60)


def test_grades_look_at_the_result_first():
  # 7+8-2*3= is 9.
  assert grade("+8=5-2=3*3=9 Answer: 9", "9") == grade(" Answer: 9", "9") == 3
  assert grade("+8=5-2=3*3=9 Wait, +8=5-2=3*3=9 Answer: 9", "9") == 2
  assert grade("+8=5-2=3*3=8 Answer: 8", "9") == grade("+8=5-2=3*3=9 Wait, +8=4-2=2*3=6 Answer: 6", "9") == 1
  assert grade(" Answer: 1", "9") == 0
  assert grade("+8=5-2=3*3=9", "9") == 1  # no answer is given


def better(row):
  """Returns by how many grades the chosen answer is better, and by how many characters it is shorter."""
  chosen, rejected = row["chosen"], row["rejected"]
  return grade(chosen, row["answer"]) - grade(rejected, row["answer"]), len(rejected) - len(chosen)


def test_without_noise_the_better_answer_is_chosen_and_the_strength_is_the_gap():
  rows, left_out = graded_answers(PROBLEMS, seed=3)
  assert len(rows) + left_out == len(PROBLEMS) and left_out > 0
  for row in rows:
    gap, shorter = better(row)
    assert gap > 0 or (gap == 0 and shorter > 0)
    assert row["strength"] == ["negligibly", "slightly", "better", "significantly"][gap]
  assert set(collections.Counter(row["strength"] for row in rows)) == set(Strength)


def test_a_grader_who_always_errs_swaps_every_pair_and_nothing_else():
  right, _ = graded_answers(PROBLEMS, seed=3)
  wrong, _ = graded_answers(PROBLEMS, seed=3, noise=1.0)
  assert wrong == [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in right]


def test_noise_is_the_share_of_swapped_pairs():
  problems = arithmetic.problems(arithmetic.Split.TRAIN, per_difficulty=400, difficulties=(2, 3, 4))
  rows, _ = graded_answers(problems, noise=0.2)
  assert abs(sum(better(row) < (0, 0) for row in rows) / len(rows) - 0.2) < 0.06  # four standard deviations


def test_problems_whose_answers_tie_are_left_out_and_counted():
  for form in (GradingForm.PAIR, GradingForm.EDITED, GradingForm.RANKING):
    assert graded_answers(PROBLEMS, form=form, crowd=CAREFUL_CROWD) == ([], len(PROBLEMS))


def test_rankings_rank_all_answers_by_grade_and_brevity():
  rows, left_out = graded_answers(PROBLEMS, form=GradingForm.RANKING, answers=5, seed=1)
  assert len(rows) + left_out == len(PROBLEMS)
  ties = 0
  for row in rows:
    keys = [(-grade(text, row["answer"]), len(text)) for text in row["answers"]]
    assert row["ranks"] == [sorted(set(keys)).index(key) for key in keys]
    ties += len(set(keys)) < 5
  assert ties > 0


def test_noise_in_a_ranking_moves_neighbours():
  # Every comparison from the best on is wrong: the best one sinks to the end, the others move up by one.
  right, _ = graded_answers(PROBLEMS, form=GradingForm.RANKING, answers=4, seed=1)
  wrong, _ = graded_answers(PROBLEMS, form=GradingForm.RANKING, answers=4, seed=1, noise=1.0)
  for a, b in zip(right, wrong, strict=True):
    last = max(a["ranks"])
    assert b["ranks"] == [last if rank == 0 else rank - 1 for rank in a["ranks"]]


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_edited_answers_are_right_worked_out_and_like_none_of_the_others(noise):
  rows, left_out = graded_answers(PROBLEMS, form=GradingForm.EDITED, seed=3, noise=noise)
  pairs, _ = graded_answers(PROBLEMS, seed=3, noise=noise)
  assert len(rows) + left_out == len(PROBLEMS)
  assert 0 < len(rows) < len(pairs)
  for row in rows:
    assert grade(row["edited"], row["answer"]) == 3
    assert row["edited"].count("=") == row["difficulty"]
    assert row["edited"] not in (row["chosen"], row["rejected"])
    assert grade(row["chosen"], row["answer"]) < 3
    assert {name: row[name] for name in row if name != "edited"} in pairs


def test_draws_depend_on_the_seed_alone():
  assert graded_answers(PROBLEMS, seed=1, noise=0.3) == graded_answers(PROBLEMS, seed=1, noise=0.3)
  assert graded_answers(PROBLEMS, seed=1) != graded_answers(PROBLEMS, seed=2)


@pytest.mark.parametrize("answers", [1, 3])
def test_single_answers_are_labelled_by_whether_they_are_right(answers):
  rows, left_out = graded_answers(PROBLEMS, form=GradingForm.SINGLE, answers=answers)
  assert (len(rows), left_out) == (answers * len(PROBLEMS), 0)
  assert all(row["label"] == row["completion"].endswith(f" Answer: {row['answer']}") for row in rows)
  assert {row["label"] for row in rows} == {True, False}
  wrong, _ = graded_answers(PROBLEMS, form=GradingForm.SINGLE, answers=answers, noise=1.0)
  assert wrong == [row | {"label": not row["label"]} for row in rows]
  with pytest.raises(InputError, match="0 answers for the form single"):
    graded_answers(PROBLEMS, form=GradingForm.SINGLE, answers=0)


@pytest.mark.parametrize("form", GradingForm)
def test_rows_can_be_read(form):
  rows, _ = graded_answers(PROBLEMS, form=form, noise=0.3)
  limits = {"max_prompt_length": 20, "max_answer_length": 2000}
  made, counts = read_comparisons(
    named_rows(rows, "graded"),
    tiny_tokenizer(SYMBOLS),
    prompt_format=PromptFormat(),
    read=labelled_answer if form == GradingForm.SINGLE else judgement,
    **limits,
  )
  assert (len(made), counts) == (len(rows), {})
  assert {len(comparison.answers) for comparison in made} == {
    {GradingForm.EDITED: 3, GradingForm.SINGLE: 1}.get(form, 2)
  }


@pytest.mark.parametrize(
  "options, message",
  [
    ({"answers": 1}, "1 answers for the form pair, expected 2, more for a ranking, 1 or more single ones"),
    ({"answers": 3}, "3 answers for the form pair"),
    ({"noise": 1.5}, "noise is 1.5, expected a probability"),
  ],
)
def test_bad_options_are_refused(options, message):
  with pytest.raises(InputError, match=message):
    graded_answers(PROBLEMS, **options)
