"""Tests what counts as a claim about an answer, and how it is compared with the truth."""

import numpy as np
import pytest

from posttrain_jax.evaluation.answer_calibration import answer_calibration, stated_confidence
from posttrain_jax.types import Answer, FinishReason, Group, Prompt


@pytest.mark.parametrize(
  ("text", "confidence"),
  [
    ("The answer is 12. I am 80 % sure.", 0.8),
    ("I'm 95% confident. No: I am 60 percent certain.", 0.6),
    ("\\boxed{3}\nConfidence: 75%", 0.75),
    ("**Confidence level:** 7, confidence is 30 per cent", 0.3),
    ("I am 400 % sure.", 1.0),
    ("I am 12.5% sure", 0.125),
    ("It is 20 % of 50, I am sure.", None),
    ("She is not 80 % sure.", None),
    ("", None),
  ],
)
def test_stated_confidences(text, confidence):
  assert stated_confidence(text) == confidence


def group(texts, right, logprob=-0.5, valid=None):
  answers = tuple(
    Answer(np.zeros(2, np.int32), np.full(2, logprob, np.float32), np.zeros(2, np.float32), np.zeros(2, np.int32),
           FinishReason.EOS)
    for _ in texts
  )  # fmt: skip
  valid = np.ones(len(texts), bool) if valid is None else np.array(valid)
  accuracy = np.array([float(each) for each in right], np.float32)
  return Group(Prompt(0, (0,), {}), answers, texts=tuple(texts), accuracy=accuracy, valid=valid)


def last_word(text):
  return text.split()[-1] if text else None


def test_votes_worked_out_by_hand():
  groups = [
    group(["is 4", "4", "5", ""], [True, True, False, False]),  # half of the samples say 4, which is right
    group(["7", "7", "7", "8"], [False, False, False, True]),  # three quarters say 7, which is wrong
    group(["9", "9", "1", "1"], [True, True, False, False], valid=[True, True, False, False]),
    group(["", "", "", ""], [False] * 4),  # says nothing and claims nothing
  ]
  found = answer_calibration(groups, last_word)
  # Claims ½ (right), ¾ (wrong) and 1 (right), each in a bin of its own.
  assert found["vote_ece"] == pytest.approx((0.5 + 0.75 + 0) / 3)
  assert found["vote_brier"] == pytest.approx((0.25 + 0.5625 + 0) / 3)
  assert found["vote_ece_low"] <= found["vote_ece"] <= found["vote_ece_high"]
  assert found["stated"] == 0 and "stated_ece" not in found


def test_the_mean_probability_of_an_answer_is_a_claim():
  groups = [group(["1", "2"], [True, False], logprob=np.log(0.5))]
  found = answer_calibration(groups, last_word)
  assert found["probability_ece"] == pytest.approx(0, abs=1e-6) and found["probability_brier"] == pytest.approx(0.25)
  sure = answer_calibration([group(["1", "2"], [True, False], logprob=0.0)], last_word)
  assert sure["probability_ece"] == pytest.approx(0.5)


def test_stated_confidences_are_compared_with_the_truth():
  texts = ["I am 90 % sure: 1", "I am 90 % sure: 2", "I do not say: 3", "I am 10 % sure: 4"]
  found = answer_calibration([group(texts, [True, False, True, False])], last_word)
  assert found["stated"] == 0.75
  assert found["stated_ece"] == pytest.approx((2 * 0.4 + 0.1) / 3)


def test_one_sample_has_no_vote():
  assert "vote_ece" not in answer_calibration([group(["1"], [True])], last_word)
