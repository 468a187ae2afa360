import pytest

from posttrain_jax.evaluation.diversity import self_bleu
from posttrain_jax.rewards.novelty import TextNovelty


def words(*texts):
  return [text.split() for text in texts]


def test_a_copy_is_not_new_whether_it_stands_beside_or_came_before():
  known = TextNovelty(4)
  assert known.add(words("how do i build a zalp ?", "how do i build a zalp ?")) == [0, 0]
  assert known.add(words("how do i build a zalp ?", "red blue green")) == [0, 1]
  assert TextNovelty(4).add(words("how do i build a zalp ?")) == [1]


def test_of_two_texts_novelty_is_one_less_self_bleu():
  texts = words("how do i build a zalp ?", "please say how do i build ?")
  assert sum(TextNovelty(4).add(texts)) / 2 == pytest.approx(1 - self_bleu(texts))


def test_the_nearest_text_counts_alone():
  known, text = TextNovelty(4), words("a b c d e f")
  known.add(words("a b c x y z", "q r s d e f"))  # together they have nearly all of it
  (found,) = known.add(text)
  alone = [sum(TextNovelty(4).add(text + words(other))[:1]) for other in ("a b c x y z", "q r s d e f")]
  assert found == pytest.approx(min(alone)) and found > 0.5


def test_texts_of_a_call_are_rated_as_if_each_were_the_last():
  texts = words("how do i build a zalp ?", "how do i make a zalp ?", "say how to build it .")
  together = TextNovelty(4).add(texts)
  for i, text in enumerate(texts):
    known = TextNovelty(4)
    known.add(texts[:i] + texts[i + 1 :])
    assert known.add([text]) == [pytest.approx(together[i])]


def test_an_n_gram_counts_at_most_as_often_as_the_other_text_has_it():
  known = TextNovelty(1)
  known.add(words("a b"))
  assert known.add(words("a a a b")) == [pytest.approx(0.5)]
  known.add(words("a a c b"))
  assert known.add(words("a a a d")) == [pytest.approx(0.25)]  # a a a b is nearest


def test_the_order_of_memory_does_not_matter():
  texts = ["a b c", "a a b", "c b a a"]
  one, other = TextNovelty(3), TextNovelty(3)
  one.add(words(*texts))
  for text in (*texts[::-1], *texts):
    other.add(words(text))
  assert one.add(words("a a b c")) == other.add(words("a a b c"))


def test_short_and_empty_texts():
  known = TextNovelty(4)
  assert known.add(words("", "a")) == [0, 1]
  assert known.add(words("", "a", "b")) == [0, 0, 1]
