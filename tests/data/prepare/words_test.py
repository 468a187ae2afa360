import random
import subprocess
import sys

import numpy as np
import pytest

from posttrain_jax.data.prepare.words import hash_words, mixed, split


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("The cat's hat, 3.5 m_x!", ["the", "cat", "s", "hat", "3", "5", "m", "x"]),
    ("ÉCOLE École école", ["école"] * 3),
    ("ﬁne ＡＢ", ["fine", "ab"]),  # NFKC: a ligature, and wide letters
    ("我们 ok漢字", ["我", "们", "ok", "漢", "字"]),
    ("カタ", ["カ", "タ"]),
    ("", []),
    ("--- !!", []),
  ],
)
def test_words(text, expected):
  assert split(text) == expected


def test_text_in_ascii_is_cut_as_all_text_is():
  text = "".join(chr(i) for i in range(128)) * 2
  assert split(text) == split(text + " é")[:-1]


def random_texts(count, seed):
  draw = random.Random(seed)
  return [" ".join(draw.choices("abcdef", k=draw.randint(0, 12))) for _ in range(count)]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_ngrams_are_equal_where_their_words_are(n):
  texts = [*random_texts(30, seed=n), "", "a"]
  found = hash_words(texts).ngrams(n)
  expected = [
    (d, i, tuple(words[i : i + n])) for d, words in enumerate(map(split, texts)) for i in range(len(words) - n + 1)
  ]
  starts = np.cumsum([0, *(len(split(text)) for text in texts)])
  assert found.documents.tolist() == [d for d, _, _ in expected]
  assert found.starts.tolist() == [starts[d] + i for d, i, _ in expected]
  by_words = {}
  for (_, _, words), hash_ in zip(expected, found.hashes.tolist()):
    assert by_words.setdefault(words, hash_) == hash_
  assert len(set(by_words.values())) == len(by_words) > 5


def test_an_order_of_words_is_part_of_an_ngram():
  hashes = hash_words(["a b", "b a"]).ngrams(2).hashes
  assert hashes[0] != hashes[1]


def test_some_documents_can_be_taken():
  texts = random_texts(10, seed=0)
  kept = np.arange(10) % 3 == 0
  found, expected = hash_words(texts).take(kept), hash_words([text for text, k in zip(texts, kept) if k])
  for name in ("hashes", "lengths", "offsets"):
    np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_lengths_are_characters():
  assert hash_words(["añb cd", "e"]).lengths.tolist() == [3, 2, 1]


def test_hashes_do_not_depend_on_the_process():
  """Python's own hash of a text does."""
  code = "from posttrain_jax.data.prepare.words import hash_words as h; print(h(['some words']).hashes.tolist())"
  child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert child.stdout.strip() == str(hash_words(["some words"]).hashes.tolist())


def test_mixing_keeps_numbers_apart():
  assert len(np.unique(mixed(np.arange(10_000, dtype=np.uint64)))) == 10_000
