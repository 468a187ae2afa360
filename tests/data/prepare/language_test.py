import dataclasses

import pytest

from posttrain_jax.data.prepare.language import LanguageRule
from posttrain_jax.data.prepare.words import hash_words
from posttrain_jax.types import InputError

ANY = LanguageRule(scripts=(), share=0.0, words=(), different=0, word_share=0.0)


def ask(rule, *texts):
  return rule(texts, hash_words(texts))


def test_scripts():
  rule = dataclasses.replace(ANY, scripts=("LATIN",), share=0.75)
  texts = ("plain", "été à", "русский", "abc дом", "abcdef до", "123 !", "")
  # "abc дом" has 3 of 6 letters in Latin, "abcdef до" 6 of 8.
  assert ask(rule, *texts) == ["", "", "0% of letters in LATIN", "50% of letters in LATIN", "", "", ""]


def test_several_scripts():
  rule = dataclasses.replace(ANY, scripts=("CJK", "HIRAGANA"), share=1.0)
  assert ask(rule, "漢字とひらがな", "カタカナ", "text") == [
    "",
    "0% of letters in CJK or HIRAGANA",
    "0% of letters in CJK or HIRAGANA",
  ]


def test_frequent_words():
  rule = dataclasses.replace(ANY, words=("the", "of"), different=2, word_share=0.5)
  texts = ("The end of it", "the the the", "of the", "ofthe theof", "The tail of a long story")
  assert ask(rule, *texts) == [
    "",
    "1 different frequent words",
    "",
    "0 different frequent words",
    "33.3% frequent words",
  ]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(scripts=("ENGLISH",)), r"language\.scripts: 'ENGLISH'"),
    (dict(share=2.0), r"language\.share: 2\.0"),
    (dict(words=("of the",)), r"language\.words: 'of the', expected single words"),
    (dict(words=("of",), different=2), r"language\.different: 2, expected 0 to 1"),
  ],
)
def test_settings_that_are_refused(changes, message):
  with pytest.raises(InputError, match=message):
    dataclasses.replace(ANY, **changes)
