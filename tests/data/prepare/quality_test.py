import dataclasses

import pytest

from posttrain_jax.data.prepare.quality import LengthRule, SymbolRule
from posttrain_jax.data.prepare.words import hash_words
from posttrain_jax.types import InputError

SYMBOLS = SymbolRule(shortest_mean=3.0, longest_mean=10.0, marks=0.1, letters=0.8, bullets=0.9, ellipses=0.3)
PLAIN = "some plain words that stand here in a line of text"  # 11 words, mean (4+5+5+4+5+4+2+1+4+2+4) / 11 = 3.6


def ask(rule, *texts):
  return rule(texts, hash_words(texts))


def test_length_counts_words():
  rule = LengthRule(lowest=2, highest=3)
  assert ask(rule, "one", "one two", "one, two three.", "a b c d", "?!") == ["1 words", "", "", "4 words", "0 words"]


@pytest.mark.parametrize(("lowest", "highest"), [(-1, 3), (4, 3)])
def test_lengths_that_let_nothing_pass_are_refused(lowest, highest):
  with pytest.raises(InputError, match=r"length\.lowest"):
    LengthRule(lowest=lowest, highest=highest)


@pytest.mark.parametrize(
  ("text", "reason"),
  [
    (PLAIN, ""),
    ("a bc a bc", "mean word of 1.5 characters"),
    ("incomprehensibilities", "mean word of 21.0 characters"),
    (f"{PLAIN} # ...", "0.15 hash signs and ellipses a word"),  # 2 of 13
    (f"{PLAIN} #", ""),  # 1 of 12, 0.08
    (f"{PLAIN} 123 456 789", "79% of words with a letter"),  # 11 of 14
    (f"{PLAIN} 1a2 b34 789", ""),  # 13 of 14
    ("- some words stand here\n• and some more of it\n\n  * some words stand here", "100% of lines with a bullet"),
    ("- some words stand here\n• words stand here\nsome words", ""),
    ("- five words in this line\n" * 19 + "one", "95% of lines with a bullet"),
    ("this line ends well\n" * 7 + "and this one so…\n" * 3, ""),  # 3 of 10 is no more than 0.3
    ("this line ends well\n" * 6 + "and this one so…\n" * 3, "33% of lines with an ellipsis"),
    ("", "mean word of 0.0 characters"),
  ],
)
def test_symbols(text, reason):
  assert ask(SYMBOLS, text) == [reason]


def test_shares_of_symbols_are_checked():
  with pytest.raises(InputError, match=r"symbols\.letters: 80"):
    dataclasses.replace(SYMBOLS, letters=80)
  with pytest.raises(InputError, match=r"symbols\.shortest_mean"):
    dataclasses.replace(SYMBOLS, shortest_mean=11.0)
