"""Tests what is told of a judge beside a rule."""

import numpy as np
import pytest

from posttrain_jax.data.verdict_question import ENGLISH
from posttrain_jax.evaluation import second_opinion
from posttrain_jax.evaluation.compliance_judge import Opinions
from posttrain_jax.evaluation.second_opinion import JudgedAnswer, SecondJudge, compare
from posttrain_jax.types import InputError


def judge(answers):
  """Takes every answer for help that begins with "so"."""
  return Opinions(np.array([0.9 if answer.startswith("so") else 0.2 for _, answer in answers]), np.ones(len(answers)))


ANSWERS = [
  JudgedAnswer("a", "so", True, ("one",)),
  JudgedAnswer("a", "no", False, ("one",)),
  JudgedAnswer("b", "so", False, ("two",)),
  JudgedAnswer("c", "no", False, ("two", "three")),
]


def test_agreement_is_told_for_all_and_for_each_group():
  opinions, found = compare(judge, ANSWERS, seed=0)
  assert opinions.yes.tolist() == [True, False, True, False]
  assert found["judge/all/rule"].mean == 0.25 and found["judge/all/model"].mean == 0.5
  assert found["judge/all/agreement"].mean == 0.75 and found["judge/one/agreement"].mean == 1
  assert found["judge/all/agreement"].problems == 3  # prompts, not answers
  assert found["judge/one/kappa"].mean == 1 and found["judge/two/agreement"].mean == 0.5


def test_a_kappa_that_is_undefined_is_left_out():
  _, found = compare(judge, ANSWERS, seed=0)
  assert "judge/three/kappa" not in found and found["judge/three/rule"].mean == 0


def test_a_missing_judge_is_one_line():
  with pytest.raises(InputError, match="no_such_model"):
    second_opinion.open_judge(SecondJudge(path="no_such_model", longest=9), ENGLISH, seed=0)
