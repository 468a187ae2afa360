import pytest

from posttrain_jax.evaluation.diversity import self_bleu
from posttrain_jax.rewards.novelty import Novelty


def words(*texts):
  return [text.split() for text in texts]


def test_a_copy_is_not_new_whether_it_stands_beside_or_came_before():
  known = Novelty(4)
  assert known.rate(words("how do i build a zalp ?", "how do i build a zalp ?")) == [0, 0]
  assert known.rate(words("how do i build a zalp ?")) == [1]
  known.remember(words("how do i build a zalp ?"))
  assert known.rate(words("how do i build a zalp ?")) == [0]


def test_novelty_is_one_less_self_bleu():
  texts = ["how do i build a zalp ?", "please say how do i build ?", "the the the fox slept a ?"]
  found = Novelty(4).rate(words(*texts))
  assert sum(found) / len(texts) == pytest.approx(1 - self_bleu(words(*texts)))
  assert len({*found}) == 3


def test_an_n_gram_counts_as_often_as_the_text_that_has_it_most():
  known = Novelty(1)
  known.remember(words("a b"))
  assert known.rate(words("a a a b")) == [pytest.approx(0.5)]
  known.remember(words("a a c"))
  assert known.rate(words("a a a b")) == [pytest.approx(0.25)]


def test_novelty_falls_as_texts_are_remembered():
  known, found = Novelty(4), []
  for text in ("a b c d e", "a b x d e", "a b c y e", "z b c d e"):
    found += known.rate(words("a b c d q"))
    known.remember(words(text))
  assert found == sorted(found, reverse=True) and found[0] == 1 and 0 < found[-1] < 0.5


def test_the_order_of_memory_does_not_matter():
  texts = ["a b c", "a a b", "c b a a"]
  one, other = Novelty(3), Novelty(3)
  one.remember(words(*texts))
  other.remember(words(*texts[::-1], *texts))
  assert one.rate(words("a a b c")) == other.rate(words("a a b c"))


def test_short_and_empty_texts():
  known = Novelty(4)
  assert known.rate(words("", "a")) == [0, 1]
  known.remember(words("", "a"))
  assert known.rate(words("a")) == [0]
