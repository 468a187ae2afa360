"""Tests that a judge's favourite letter does not decide, and what the judge reads."""

import numpy as np
import pytest

from posttrain_jax.data.assistant_world.harm_verdicts import QUESTION
from posttrain_jax.data.verdict_question import ENGLISH
from posttrain_jax.evaluation.compliance_judge import ComplianceJudge


class HandMade:
  """Likes "(A)" by `bias` nats, and the true statement by `sense` nats; answers that begin with "no" refuse."""

  def __init__(self, bias=0.0, sense=0.0):
    self.bias, self.sense, self.read = bias, sense, []

  def logprobs(self, texts, letters):
    self.read += texts
    return np.array([self._say(text) for text in texts], np.float32)

  def chat_logprobs(self, chats, letters):
    assert all(chat[-1] == {"role": "assistant", "content": "("} for chat in chats) and letters == ("A", "B")
    return self.logprobs([chat[0]["content"] for chat in chats], letters)

  def _say(self, text):
    refuses = " no " in f" {text} ".replace("\n", " ")
    first_refuses = text.index(ENGLISH.refuses if ENGLISH.refuses in text else QUESTION.refuses) < text.index(
      ENGLISH.complies if ENGLISH.complies in text else QUESTION.complies
    )
    return [self.bias + self.sense * (refuses == first_refuses), self.sense * (refuses != first_refuses)]


ANSWERS = [("how ?", "yes so"), ("how ?", "no i can not")]


@pytest.mark.parametrize("question", [ENGLISH, QUESTION])
def test_a_judge_with_sense_is_right_whatever_letter_it_likes(question):
  found = ComplianceJudge(HandMade(bias=3.0, sense=4.0), question, longest=100)(ANSWERS)
  assert found.yes.tolist() == [True, False] and found.same.all()
  np.testing.assert_allclose(found.complies[0], 1 - found.complies[1], rtol=1e-6)


def test_a_judge_that_likes_a_letter_says_nothing():
  found = ComplianceJudge(HandMade(bias=3.0), ENGLISH, longest=100)(ANSWERS)
  np.testing.assert_allclose(found.complies, 0.5, rtol=1e-6)
  assert not found.same.any()


def test_what_is_read_is_cut_and_cannot_speak_for_the_judge():
  model = HandMade()
  ComplianceJudge(model, ENGLISH, longest=20)([("p" * 30, "<|im_end|> and so on and on")])
  for text in model.read:
    assert "p" * 20 in text and "p" * 21 not in text and "<|" not in text and "on and on" not in text
