"""Tests how a judge is asked; a hand-made model stands for it."""

import numpy as np

from posttrain_jax.recipes.both_orders import Judge


class HandMade:
  """Reads what it is asked, and chooses by given logprobs."""

  def __init__(self, logprobs, thought=""):
    self.read, self.thought, self._logprobs = [], thought, logprobs

  def draw(self, texts):
    self.read.extend(texts)
    return [self.thought] * len(texts), 3 * len(texts)

  def logprobs(self, texts, endings):
    assert endings == ("(A)", "(B)")
    self.read.extend(texts)
    return self._logprobs(texts)


def test_the_probability_is_that_among_a_and_b_averaged_over_both_orders():
  def logprobs(texts):
    # In the first order A is three times as likely as B; in the other one both are equally likely.
    return np.log([[0.3, 0.1] if "(A) good" in text else [0.2, 0.2] for text in texts])

  judge = Judge(HandMade(logprobs), thinks=False)
  found, agree = judge.probabilities([("q", "good", "bad", "k", "fire is wrong")])
  np.testing.assert_allclose(found, [(0.75 + 0.5) / 2])
  np.testing.assert_array_equal(agree, [0])


def test_a_judge_that_looks_at_the_place_only_says_nothing():
  judge = Judge(HandMade(lambda texts: np.log([[0.9, 0.1]] * len(texts))), thinks=False)
  found, agree = judge.probabilities([("q", "a", "b", "k", "p")])
  np.testing.assert_allclose(found, [0.5])
  np.testing.assert_array_equal(agree, [0])


def test_what_a_judge_reads_ends_before_its_choice():
  model = HandMade(lambda texts: np.zeros((len(texts), 2)))
  Judge(model, thinks=False).probabilities([("q :", "x", "y", "k", "p")])
  assert model.read == [
    "q : k . principle : p . (A) x (B) y better :",
    "q : k . principle : p . (A) y (B) x better :",
  ]


def sure(texts):
  """Prefers the answer "good", nearly surely."""
  return np.log([[0.99, 0.01] if "(A) good" in text else [0.01, 0.99] for text in texts])


def test_the_clamp_acts_on_each_order_of_a_judge_that_thinks():
  pair = ("q :", "good", "bad", "k", "p")
  model = HandMade(sure, thought="(B) is a mistake . better : (A)")
  judge = Judge(model, thinks=True)
  np.testing.assert_allclose(judge.probabilities([pair])[0], [0.6])
  assert model.read[:2] == [
    "q : k . principle : p . (A) good (B) bad critique :",
    "q : k . principle : p . (A) good (B) bad critique : (B) is a mistake . better :",
  ]
  assert judge.tokens == 6
  np.testing.assert_allclose(Judge(HandMade(sure), thinks=False).probabilities([pair])[0], [0.99])
  # What is already within 40 to 60 % stays.
  unsure = HandMade(lambda texts: np.log([[0.55, 0.45] if "(A) good" in text else [0.45, 0.55] for text in texts]))
  np.testing.assert_allclose(Judge(unsure, thinks=True).probabilities([pair])[0], [0.55])
