"""Tests the two ways to read a judge's score."""

import math

import jax
import numpy as np
import pytest

from posttrain_jax.evaluation.generative_evaluation import GenerativeEvaluation, JudgedAnswers, verdict_metrics
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.types import Prompt
from tests.assembly.tiny_judge import MODEL, TOKENIZER, Scripted, expected_alone, params


def test_verdicts_of_hand_worked_scores():
  nan = math.nan
  scores = np.array([[1, 1], [0, 1], [nan, nan], [1, nan], [0, 0]])
  labels = np.array([1.0, 0, 0, 1, 0])
  found = verdict_metrics(scores, labels, ["a", "a", "a", "b", "c"], middle=0.5)
  # Problem a: its answers are judged rightly 1, 1/2 and 0 times out of 1; b: 1/2; c: 1.
  assert found["accuracy"] == pytest.approx((0.5 + 0.5 + 1) / 3)
  # Pairs of a: 1 over 1/2, which is right, and 1 over nothing, which is half right. b and c have none.
  assert found["pair_accuracy"] == pytest.approx(0.75)
  assert found["pairs"] == 2
  assert found["unparsed"] == pytest.approx(3 / 10)
  assert found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"]


def test_a_score_in_the_middle_is_no_verdict():
  found = verdict_metrics(np.array([[3.0], [4.0], [2.0]]), np.array([5.0, 5, 1]), ["a", "b", "c"], middle=3)
  assert found["accuracy"] == pytest.approx(2 / 3)
  assert math.isnan(found["pair_accuracy"])


def test_both_readings_of_known_judgements():
  asked = ["1+1= Answer: 2 Wait, ", "1+1= Answer: 3 Wait, ", "1+2= Answer: 4 Wait, "]
  prompts = [Prompt(i, tuple(TOKENIZER.encode(text)), {}) for i, text in enumerate(asked)]
  greedy = [["+1=2 Score: 1"], ["+1=2 Score: 0"], ["+2=3"]]
  sampled = [["+1=2 Score: 1", "+1=2 Score: 0"], ["+1=2 Score: 0", "+1=2 Score: 0"], ["+2", "+2=3 Score: 1"]]
  mesh = make_mesh({}, jax.devices()[:1])
  judged = JudgedAnswers(prompts, np.array([1.0, 0, 0]), ["1+1=", "1+1=", "1+2="])
  evaluation = GenerativeEvaluation(
    MODEL, TOKENIZER, judged, Scripted(sampled), Scripted(greedy), mesh, samples=2, low=0, high=1, mark="Score:"
  )
  metrics, groups = evaluation(params(), 0)
  assert groups["greedy"][0].texts == ("+1=2 Score: 1",)
  assert metrics["eval/sampled/accuracy"] == pytest.approx(((0.5 + 1) / 2 + 0) / 2)
  assert metrics["eval/sampled/pair_accuracy"] == 1
  assert metrics["eval/sampled/unparsed"] == pytest.approx(1 / 6)
  assert metrics["eval/labels/majority"] == pytest.approx(2 / 3)
  assert metrics["eval/expected/unparsed"] == pytest.approx(1 / 3)
  scores = np.array([expected_alone(text + "+1=2 Score: ", "01") for text in asked[:2]])
  right = (np.sign(scores - 0.5) == [1, -1]).mean()  # of the two answers to one problem; the third has none
  assert metrics["eval/expected/accuracy"] == pytest.approx((right + 0) / 2)
  assert metrics["eval/expected/pair_accuracy"] == float(scores[0] > scores[1])
