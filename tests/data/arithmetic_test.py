import collections

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain_jax.data import arithmetic
from posttrain_jax.data.arithmetic import Split
from posttrain_jax.types import InputError

PROMPTS = st.builds(
  lambda first, terms: f"{first}{''.join(terms)}=",
  st.integers(0, 9),
  st.lists(st.sampled_from([f"{sign}{digit}" for sign in "+-*" for digit in range(10)]), min_size=1, max_size=8),
)


def test_working_by_hand():
  # 7+8 = 15 -> 5; 5-2 = 3; 3*3 = 9. From left to right: 2+3*4 is 20 -> 0. Below zero: 1-2 = -1 -> 9, as 11-2.
  assert arithmetic.working("7+8-2*3=") == [5, 3, 9]
  assert arithmetic.working("2+3*4=") == [5, 0]
  assert arithmetic.working("1-2=") == [9]


@given(PROMPTS)
def test_working_is_arithmetic_modulo_ten(prompt):
  first, terms = arithmetic.terms(prompt)
  # Bracketed from the left and evaluated by Python, without the last digit taken in between.
  value = eval("(" * len(terms) + str(first) + "".join(f"{term})" for term in terms))
  assert arithmetic.working(prompt)[-1] == value % 10


@pytest.mark.parametrize("prompt", ["", "7=", "7+8", "17+8=", "7+8=\n", "7/8=", "7+８=", "+8=", "7+8==", "7 + 8="])
def test_other_texts_are_refused(prompt):
  with pytest.raises(InputError, match="not a chain"):
    arithmetic.working(prompt)


def test_rows_are_as_asked_for():
  rows = arithmetic.problems(Split.TRAIN, per_difficulty=50, seed=3, difficulties=(2, 5))
  assert [row["difficulty"] for row in rows] == [2, 5] * 50
  for row in rows:
    results = arithmetic.working(row["prompt"])
    assert (len(results), str(results[-1])) == (row["difficulty"], row["answer"])
  assert len({row["prompt"] for row in rows}) == 100


def test_no_term_stands_twice_in_a_problem():
  for row in arithmetic.problems(Split.TRAIN, per_difficulty=100, difficulties=(6, 30)):
    _, terms = arithmetic.terms(row["prompt"])
    assert len(set(terms)) == len(terms)


def test_the_same_seed_gives_the_same_problems_and_another_gives_others():
  def draw(seed):
    return arithmetic.problems(Split.TRAIN, per_difficulty=5, seed=seed, difficulties=(3,))

  assert draw(0) == draw(0) != draw(1)
  # Pinned: a run resumed on another Python must find the same problems.
  assert [row["prompt"] for row in draw(0)][:3] == ["7*1-5*3=", "1+1*9+5=", "5*3-2+0="]


def test_fewer_are_drawn_of_more():
  few = arithmetic.problems(Split.TRAIN, per_difficulty=5, difficulties=(3,))
  assert arithmetic.problems(Split.TRAIN, per_difficulty=9, difficulties=(3,))[:5] == few


def test_splits_share_no_problem_whatever_the_seed():
  texts = {split: set() for split in Split}
  for split in Split:
    for seed in range(3):
      texts[split] |= {row["prompt"] for row in arithmetic.problems(split, per_difficulty=400, seed=seed)}
  assert not texts[Split.TRAIN] & texts[Split.HELD_OUT]
  assert not texts[Split.TRAIN] & texts[Split.SFT_ONLY]
  assert not texts[Split.SFT_ONLY] & texts[Split.HELD_OUT]


def test_splits_have_their_shares():
  prompts = [f"{i}+{j}*{k}-{m}=" for i in range(10) for j in range(10) for k in range(10) for m in range(10)]
  counts = collections.Counter(arithmetic.split_of(prompt, held_out=0.2, sft_only=0.1) for prompt in prompts)
  # Five standard deviations of a binomial are 200 and 150.
  assert abs(counts[Split.HELD_OUT] - 2000) < 200
  assert abs(counts[Split.SFT_ONLY] - 1000) < 150


def test_a_split_is_a_function_of_the_text_alone():
  # First 64 bits of the sha256 of "1+1=" as a fraction: 0.2792571; pinned, since Python's own hash changes by process.
  assert arithmetic.split_of("1+1=", held_out=0.2792571 - 1e-6, sft_only=0) == Split.TRAIN
  assert arithmetic.split_of("1+1=", held_out=0.2792571 - 1e-6, sft_only=2e-6) == Split.SFT_ONLY
  assert arithmetic.split_of("1+1=", held_out=0.2792571 + 1e-6, sft_only=0) == Split.HELD_OUT


def test_what_runs_out_is_left_out():
  splits = [arithmetic.problems(split, per_difficulty=1000, difficulties=(1, 2)) for split in Split]
  one_step = [row for rows in splits for row in rows if row["difficulty"] == 1]
  assert len({row["prompt"] for row in one_step}) == len(one_step) == 300  # all that there are
  assert [len(rows) - sum(row["difficulty"] == 1 for row in rows) for rows in splits] == [1000, 898, 1000]


@pytest.mark.parametrize(
  "arguments",
  [
    dict(per_difficulty=0),
    dict(per_difficulty=1, difficulties=()),
    dict(per_difficulty=1, difficulties=(0,)),
    dict(per_difficulty=1, difficulties=(31,)),
    dict(per_difficulty=1, held_out=-0.1),
    dict(per_difficulty=1, held_out=0.7, sft_only=0.4),
  ],
)
def test_bad_arguments_are_refused(arguments):
  with pytest.raises(InputError, match=r"arithmetic: .*expected"):
    arithmetic.problems(Split.TRAIN, **arguments)


def test_facts_are_the_sums_and_products_of_one_digit_numbers_each_on_one_side():
  rows = [row for split in Split for row in arithmetic.facts(split, sft_only=0.1)]
  assert len({row["prompt"] for row in rows}) == len(rows) == 200
  answers = {row["prompt"]: row["answer"] for row in rows}
  assert (answers["What is 7 * 8?"], answers["What is 7 + 8?"]) == ("56", "15")
  assert {row["operator"] for row in arithmetic.facts(Split.HELD_OUT)} == {"+", "*"}
