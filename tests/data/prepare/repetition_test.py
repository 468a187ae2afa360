import collections
import dataclasses
import random

import numpy as np
import pytest

from posttrain_jax.data.prepare.repetition import RepetitionRule, repeated_shares, top_shares
from posttrain_jax.data.prepare.words import hash_words, split
from posttrain_jax.types import InputError

ANY = RepetitionRule(lines=1.0, line_text=1.0, paragraphs=1.0, paragraph_text=1.0, top=(), repeated=())


def ask(rule, *texts):
  return rule(texts, hash_words(texts))


def test_lines_and_their_text():
  text = "a long line of text\n\n b \nb\nc"  # one line of four repeats; 1 character of 16 + 5
  assert ask(dataclasses.replace(ANY, lines=0.2), text) == ["25% of lines repeated"]
  assert ask(dataclasses.replace(ANY, lines=0.25), text) == [""]
  text = "long line\nb\nc\nlong line"  # 9 of 20 characters
  assert ask(dataclasses.replace(ANY, line_text=0.4), text) == ["45% of the text in repeated lines"]
  assert ask(dataclasses.replace(ANY, line_text=0.45), text) == [""]


def test_paragraphs():
  text = "one\ntwo\n\nthree\n\none\ntwo"
  assert ask(dataclasses.replace(ANY, paragraphs=0.3), text) == ["33% of paragraphs repeated"]
  assert ask(dataclasses.replace(ANY, paragraph_text=0.3), text) == ["37% of the text in repeated paragraphs"]  # 7 / 19


def test_the_most_frequent_ngram():
  # "ab cd" occurs twice, 8 characters of 4 * 2 + 3
  assert top_shares(hash_words(["ab cd x ab cd y z", "a b", ""]), 2).tolist() == pytest.approx([8 / 11, 0, 0])
  rule = dataclasses.replace(ANY, top=((2, 0.7),))
  assert ask(rule, "ab cd x ab cd y z", "a b c") == ["73% of the text in one 2-gram", ""]


def test_repeated_ngrams():
  # "b c d" occurs a second time, as three of eight characters
  assert repeated_shares(hash_words(["a b c d e b c d", "a b c", ""]), 3).tolist() == pytest.approx([3 / 8, 0, 0])
  rule = dataclasses.replace(ANY, repeated=((3, 0.4), (2, 0.3)))
  assert ask(rule, "a b c d e b c d", "x") == ["38% of the text in repeated 2-grams", ""]


def by_hand(words, n):
  """Computes both shares from the definitions, with sets of tuples."""
  total = sum(map(len, words)) or 1
  grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
  counts = collections.Counter(grams)
  top = max((count * len("".join(gram)) for gram, count in counts.items() if count > 1), default=0)
  covered = {i + k for i, gram in enumerate(grams) if gram in grams[:i] for k in range(n)}
  return top / total, sum(len(words[i]) for i in covered) / total


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_shares_agree_with_the_definitions(n):
  draw = random.Random(n)
  texts = [" ".join(draw.choices(["a", "bb", "ccc", "d", "ee"], k=draw.randint(0, 60))) for _ in range(50)]
  words = hash_words(texts)
  expected = np.array([by_hand(split(text), n) for text in texts])
  np.testing.assert_allclose(top_shares(words, n), expected[:, 0])
  np.testing.assert_allclose(repeated_shares(words, n), expected[:, 1])


def test_documents_that_pass_the_shortest_ngrams_pass_all():
  """The rule looks at longer n-grams of few documents only; verdicts are those of all."""
  draw = random.Random(0)
  texts = [" ".join(draw.choices([f"w{i}" for i in range(5)], k=draw.randint(0, 30))) for _ in range(200)]
  bounds = ((2, 0.6), (3, 0.2), (4, 0.1), (5, 0.05))
  found = ask(dataclasses.replace(ANY, repeated=bounds), *texts)
  expected = [any(by_hand(split(text), n)[1] > share for n, share in bounds) for text in texts]
  assert [bool(reason) for reason in found] == expected
  assert 20 < sum(expected) < 180


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(lines=3.0), r"repetition\.lines: 3\.0"),
    (dict(top=((2.5, 0.1),)), r"repetition\.top: \(2\.5, 0\.1\), expected pairs"),
    (dict(top=((2,),)), r"repetition\.top: .*expected pairs"),
    (dict(repeated=((0, 0.1),)), r"repetition\.repeated: .*expected pairs"),
    (dict(repeated=((5, 15),)), r"repetition\.repeated: 15, expected a share"),
  ],
)
def test_settings_that_are_refused(changes, message):
  with pytest.raises(InputError, match=message):
    dataclasses.replace(ANY, **changes)
