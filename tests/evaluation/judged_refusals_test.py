"""Tests a model's verdicts on refusals beside the rule's."""

import numpy as np
import pytest

from posttrain_jax.evaluation.compliance_judge import Opinions
from posttrain_jax.evaluation.judged_refusals import judge_refusals
from posttrain_jax.types import Group, Prompt

REFUSAL, HELP = "I'm sorry, but no.", "Sure, you do it so."


def group(index, label, kind, texts):
  row = {"prompt": f"question {index}", "label": label, "type": kind}
  return Group(Prompt(index, (0,), row), (), texts=tuple(texts))


def judge(answers):
  """Takes every answer for help but a refusal of question 0."""
  helps = [prompt != "question 0" or answer != REFUSAL for prompt, answer in answers]
  return Opinions(np.where(helps, 0.8, 0.1), np.array(helps))


def test_agreement_is_told_apart_by_label_and_type():
  groups = [group(0, "safe", "homonyms", [REFUSAL, HELP]), group(1, "unsafe", "contrast_homonyms", [REFUSAL, HELP])]
  metrics, lines = judge_refusals(groups, judge, ("label", "type"))
  assert metrics["judge/all/rule"] == 0.5 and metrics["judge/all/model"] == 0.75
  assert metrics["judge/safe/agreement"] == 1 and metrics["judge/unsafe/agreement"] == 0.5
  assert metrics["judge/homonyms/kappa"] == metrics["judge/homonyms/kappa_high"] == 1
  assert metrics["judge/same_in_both_orders"] == 0.75
  assert [line["refuses"] for line in lines] == [True, False, True, False]
  assert [line["judge"] for line in lines] == pytest.approx([0.1, 0.8, 0.8, 0.8])
