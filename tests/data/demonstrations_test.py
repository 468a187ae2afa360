import collections
import dataclasses
import random
import re

import pytest

from posttrain_jax.data import arithmetic
from posttrain_jax.data.demonstrations import SYMBOLS, USUAL_CROWD, Crowd, demonstrations
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.types import InputError

PROBLEM = {"prompt": "7+8-2*3=", "answer": "9", "difficulty": 3}


def only(careful=0.0, rambling=0.0, slip=0.0, doubt=0.0):
  return Crowd(careful=(careful,), rambling=(rambling,), slip=slip, doubt=doubt)


def completions(problem, crowd, copies=1, seed=0):
  return [row["completion"] for row in demonstrations([problem], crowd=crowd, copies=copies, seed=seed)]


def test_each_demonstrator_by_hand():
  work = "+8=5-2=3*3=9"
  assert completions(PROBLEM, only(careful=1)) == [f"{work} Answer: 9"]
  assert completions(PROBLEM, only()) == [" Answer: 1"]  # 7*3 = 21
  assert completions(PROBLEM, only(rambling=1)) == [f"{work} Answer: 9"]  # nothing doubted
  doubting = completions(PROBLEM, only(rambling=1, doubt=0.5), copies=50)
  assert all(re.fullmatch(rf"{re.escape(work)}( Wait, {re.escape(work)})* Answer: 9", text) for text in doubting)
  counts = collections.Counter(text.count("Wait") for text in doubting)
  assert len(counts) > 3 and 15 <= counts[0] <= 35  # half of 50 doubt nothing; 3 standard deviations are 10.6


def test_even_endless_doubt_ends():
  (text,) = completions(PROBLEM, only(rambling=1, doubt=1.0))
  assert 1000 < len(text) < 1100 and text.endswith(" Answer: 9")


def test_a_slip_is_carried_on():
  for seed in range(20):
    (text,) = completions(PROBLEM, only(careful=1, slip=1.0), seed=seed)
    results = [int(result) for result in re.findall("=(.)", text)]
    values = [7, *results]
    for value, term, result in zip(values, ("+8", "-2", "*3"), results):
      assert result != arithmetic.apply(value, term)
    assert text.endswith(f"Answer: {results[-1]}")


def test_slips_are_as_frequent_as_asked_for():
  texts = completions(PROBLEM, only(careful=1, slip=0.1), copies=2000)
  right = sum(text.startswith("+8=5") for text in texts)
  assert abs(right / 2000 - 0.9) < 0.03  # 4.5 standard deviations


def test_shares_follow_difficulty_and_the_last_holds_beyond():
  crowd = Crowd(careful=(0.9, 0.3), rambling=(0.1, 0.2), slip=0.02, doubt=0.7)
  problems = [{"prompt": f"1{'+1' * d}=", "answer": str(1 + d), "difficulty": d} for d in (1, 2, 4)]
  rows = demonstrations(problems, crowd=crowd, copies=1000)
  counts = collections.Counter((row["difficulty"], row["demonstrator"]) for row in rows)
  expected = {1: (0.9, 0.1, 0.0), 2: (0.3, 0.2, 0.5), 4: (0.3, 0.2, 0.5)}
  for difficulty, shares in expected.items():
    for name, share in zip(("careful", "rambling", "hasty"), shares):
      assert abs(counts[difficulty, name] / 1000 - share) < 0.07  # 4.4 standard deviations


def test_every_text_can_be_tokenised_one_token_a_term():
  tokenizer = tiny_tokenizer(SYMBOLS)
  rows = demonstrations(arithmetic.problems(arithmetic.Split.TRAIN, per_difficulty=40), copies=2)
  for row in rows:
    for text in (row["prompt"], row["completion"]):
      assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(row["prompt"])) == row["difficulty"] + 2
  (careful,) = completions(PROBLEM, only(careful=1))
  assert len(tokenizer.encode(careful)) == 2 * 3 + 2


def test_draws_depend_on_the_seed_alone_and_leave_the_problems_alone():
  problems = arithmetic.problems(arithmetic.Split.TRAIN, per_difficulty=20)
  before = [dict(row) for row in problems]
  rows = demonstrations(problems, copies=2, seed=3)
  random.seed(0)
  assert demonstrations(problems, copies=2, seed=3) == rows != demonstrations(problems, copies=2, seed=4)
  assert problems == before
  assert [row["prompt"] for row in rows] == 2 * [row["prompt"] for row in problems]


@pytest.mark.parametrize(
  "change",
  [
    dict(careful=(0.5,), rambling=(0.1, 0.1)),
    dict(careful=(), rambling=()),
    dict(careful=(0.6,), rambling=(0.6,)),
    dict(careful=(-0.1,), rambling=(0.6,)),
    dict(slip=1.5),
    dict(doubt=-0.1),
  ],
)
def test_bad_crowds_are_refused(change):
  with pytest.raises(InputError, match=r"crowd: .*expected"):
    dataclasses.replace(USUAL_CROWD, **change)
