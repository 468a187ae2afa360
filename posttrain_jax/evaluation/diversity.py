"""Measures the variety of answers: distinct n-grams, the same adjusted for length, and self-BLEU.

An answer is a sequence of tokens: ids, or the words of a text that has been split.
"""

import collections
import math
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from posttrain_jax.types import InputError

Tokens = Sequence[Hashable] | np.ndarray


def distinct_n(answers: Sequence[Tokens], n: int) -> float:
  """Divides distinct n-grams of all answers by n-grams (Li et al. 2016, arXiv:1510.03055, section 5).

  It falls as there is more text, however varied: compare sets of equal size, or use `expectation_adjusted_distinct`.

  Args:
    answers: N sequences of tokens.
    n: tokens of an n-gram.

  Returns:
    A share in (0, 1]; NaN when no answer has n tokens.

  Raises:
    InputError: if n is below 1, or if an answer is text.
  """
  ngrams = [gram for counts in _ngram_counts(answers, n) for gram in counts.elements()]
  return len(set(ngrams)) / len(ngrams) if ngrams else math.nan


def mean_distinct_n(answers: Sequence[Tokens], n: int) -> float:
  """Averages over answers the share of distinct n-grams in each.

  It is low if answers repeat themselves.

  Arguments and errors as in `distinct_n`. Answers shorter than n tokens are left out; NaN when all are.
  """
  shares = [len(counts) / counts.total() for counts in _ngram_counts(answers, n) if counts]
  return math.fsum(shares) / len(shares) if shares else math.nan


def expectation_adjusted_distinct(answers: Sequence[Tokens], *, vocabulary: int, n: int = 1) -> float:
  """Computes EAD: distinct n-grams over their expected number if each were drawn uniformly.

  EAD = D / (V (1 − ((V − 1) / V)^C)), D of C n-grams distinct      (Liu et al. 2022, arXiv:2202.13587, section 3)

  V is vocabulary^n, the number of possible n-grams; the authors' code has the vocabulary for every n.

  Args:
    answers: N sequences of tokens.
    vocabulary: how many different tokens there could be.
    n: tokens of an n-gram.

  Returns:
    A ratio above 0, around 1 for uniform noise (so it may exceed 1); NaN when no answer has n tokens.

  Raises:
    InputError: if n is below 1, if an answer is text, or if there are more different tokens than in the vocabulary.
  """
  grams = collections.Counter()
  for counts in _ngram_counts(answers, n):
    grams.update(counts)
  tokens = {token for gram in grams for token in gram}
  if vocabulary < max(len(tokens), 1):
    raise InputError(f"vocabulary is {vocabulary}, expected at least the {len(tokens)} different tokens of the answers")
  if not grams:
    return math.nan
  possible = vocabulary**n
  expected = -possible * math.expm1(grams.total() * math.log1p(-1 / possible)) if possible > 1 else 1
  return len(grams) / expected


def self_bleu(answers: Sequence[Tokens], *, max_n: int = 4, smoothing: float = 0.1) -> float:
  """Computes the mean BLEU of each answer against all others: 1 for copies.

  BLEU = min(1, e^{1 − r/c}) Π_n p_n^{1/max_n} (Papineni et al. 2002), p_n the share of the answer's n-grams that some
  other answer has, each counted at most as often as in the one that has it most; c the answer's length, r the closest
  of the others' (the shorter one at equal distance). Self-BLEU: Texygen (arXiv:1802.01886).

  Args:
    answers: at least two sequences of tokens.
    max_n: the longest n-grams.
    smoothing: matches credited where there are none, for n above 1 (Chen & Cherry 2014, method 1); 0: unsmoothed, so
      that an answer without a common max_n-gram scores 0.

  Returns:
    A mean in [0, 1]. An answer without any common token scores 0, an empty one too.

  Raises:
    InputError: if there are fewer than two answers, if an answer is text, or if max_n is below 1.
  """
  if len(answers) < 2:
    raise InputError(f"self-BLEU of {len(answers)} answers, expected at least 2")
  if max_n < 1:
    raise InputError(f"max_n is {max_n}, expected at least 1")
  matches = zip(*(_shared_counts(_ngram_counts(answers, n)) for n in range(1, max_n + 1)))
  lengths = [len(answer) for answer in answers]
  scores = [
    _bleu(shared, length, closest, smoothing) for shared, length, closest in zip(matches, lengths, _closest(lengths))
  ]
  return math.fsum(scores) / len(scores)


def _bleu(shared: Sequence[int], length: int, closest: int, smoothing: float) -> float:
  if shared[0] == 0:
    return 0.0
  precisions = [(count or smoothing) / max(length - n, 1) for n, count in enumerate(shared)]
  return min(1.0, math.exp(1 - closest / length)) * math.prod(precisions) ** (1 / len(precisions))


def _shared_counts(answers: Sequence[collections.Counter]) -> list[int]:
  """Counts the n-grams that each answer shares with another.

  An n-gram counts at most as often as the other answer has it.
  """
  most = {}  # n-gram → its highest count, the answer with that count, and the highest count in any other answer
  for number, counts in enumerate(answers):
    for gram, count in counts.items():
      highest, owner, second = most.get(gram, (0, None, 0))
      most[gram] = (count, number, highest) if count > highest else (highest, owner, max(second, count))

  def elsewhere(gram, number):
    highest, owner, second = most[gram]
    return second if owner == number else highest

  return [sum(min(k, elsewhere(gram, i)) for gram, k in counts.items()) for i, counts in enumerate(answers)]


def _closest(lengths: Sequence[int]) -> Iterable[int]:
  """Yields for each length the closest of the others; the shorter of two equally close."""
  have = collections.Counter(lengths)
  for length in lengths:
    others = [other for other, count in have.items() if count > (other == length)]
    yield min(others, key=lambda other, length=length: (abs(other - length), other))


def _ngram_counts(answers: Sequence[Tokens], n: int) -> list[collections.Counter]:
  if n < 1:
    raise InputError(f"n is {n}, expected n-grams of at least 1 token")
  for number, answer in enumerate(answers):
    if isinstance(answer, str | bytes):
      raise InputError(f"answers[{number}] is text, expected a sequence of tokens: split it into words or ids")
  return [collections.Counter(zip(*(answer[i:] for i in range(n)))) for answer in answers]
