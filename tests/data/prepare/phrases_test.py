import random

from posttrain_jax.data.prepare.phrases import Phrases
from posttrain_jax.data.prepare.words import hash_words, split


def test_phrases_of_different_lengths():
  found = Phrases(["bad", "very bad", "Really, very bad!", ""]).find(
    hash_words(["a bad day", "such a VERY bad, bad one", "really very bad", "good", "badly"])
  )
  assert found.words.tolist() == [1, 3, 3, 0, 0]
  # The one that begins first; of two with the same beginning, the shorter one.
  assert found.first.tolist() == [0, 1, 2, -1, -1]


def test_an_empty_list_finds_nothing():
  for texts in ([], ["", "?"]):
    phrases = Phrases(texts)
    found = phrases.find(hash_words(["a b", ""]))
    assert (len(phrases), phrases.left_out) == (0, len(texts))
    assert found.words.tolist() == [0, 0] and found.first.tolist() == [-1, -1]


def test_runs_of_n_words_and_short_texts():
  phrases = Phrases(["a b c d", "x y", "z"], n=3, shortest=2)
  assert (len(phrases), phrases.left_out) == (3, 1)  # a b c, b c d, x y
  found = phrases.find(hash_words(["b c d", "a b x c d", "q x y", "z"]))
  assert found.first.tolist() == [0, -1, 1, -1]


def by_hand(listed, text):
  """Returns how many words of a text stand in a listed run, by comparing all runs."""
  words = split(text)
  covered = set()
  for phrase in listed:
    for i in range(len(words) - len(phrase) + 1):
      if words[i : i + len(phrase)] == phrase:
        covered |= set(range(i, i + len(phrase)))
  return len(covered)


def test_words_agree_with_a_comparison_of_all_runs():
  draw = random.Random(0)
  listed = [draw.choices("abcd", k=draw.randint(1, 4)) for _ in range(8)]
  texts = [" ".join(draw.choices("abcdef", k=draw.randint(0, 30))) for _ in range(100)]
  found = Phrases([" ".join(phrase) for phrase in listed]).find(hash_words(texts))
  assert found.words.tolist() == [by_hand(listed, text) for text in texts]
  assert [first >= 0 for first in found.first.tolist()] == [count > 0 for count in found.words.tolist()]
