"""Judges documents by how much of them repeats, with the rules of MassiveText (arXiv:2112.11446, appendix A.1.1)."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from posttrain_jax.data.prepare.refusal import check_share, refuse
from posttrain_jax.data.prepare.words import Ngrams, WordHashes, mixed


class NgramBound(NamedTuple):
  """Describes the highest share of a document's text that n-grams may have.

  Attributes:
    n: words of an n-gram.
    share: the highest share.
  """

  n: int
  share: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepetitionRule:
  """Drops documents that repeat lines, paragraphs or n-grams of words.

  Shares of text are shares of its characters; of n-grams, shares of the characters in words.

  Attributes:
    lines: highest share of lines that an earlier line equals.
    line_text: highest share of text in such lines.
    paragraphs: highest share of paragraphs that an earlier one equals.
    paragraph_text: highest share of text in such paragraphs.
    top: pairs (n, share), the highest share of text in the most frequent n-gram.
    repeated: pairs (n, share), the highest share of text in n-grams that occurred before.
  """

  lines: float
  line_text: float
  paragraphs: float
  paragraph_text: float
  top: tuple[tuple[float, ...], ...]
  repeated: tuple[tuple[float, ...], ...]

  def __post_init__(self):
    """Raises InputError if a share or a pair is none."""
    for name in ("lines", "line_text", "paragraphs", "paragraph_text"):
      check_share(f"repetition.{name}", getattr(self, name))
    for name in ("top", "repeated"):
      for pair in getattr(self, name):
        if len(pair) != 2 or pair[0] != int(pair[0]) or pair[0] < 1:
          refuse(f"repetition.{name}: {pair}, expected pairs of a number of words and a share")
        check_share(f"repetition.{name}", pair[1])

  def __call__(self, texts: Sequence[str], words: WordHashes) -> list[str]:
    """Returns for each document why it is dropped; empty if it is not."""
    reasons = [self._of_parts(text) for text in texts]
    for reason, shares, bound in self._of_ngrams(words):
      for document in np.flatnonzero(shares > bound.share).tolist():
        reasons[document] = reasons[document] or f"{shares[document]:.0%} of the text in {reason}"
    return reasons

  def _of_parts(self, text: str) -> str:
    for name, separator, most, most_text in (
      ("lines", "\n", self.lines, self.line_text),
      ("paragraphs", "\n\n", self.paragraphs, self.paragraph_text),
    ):
      parts = [part for part in map(str.strip, text.split(separator)) if part]
      if len(set(parts)) == len(parts):
        continue
      once, total = dict.fromkeys(parts), sum(map(len, parts))
      share, text_share = 1 - len(once) / len(parts), 1 - sum(map(len, once)) / total
      if share > most:
        return f"{share:.0%} of {name} repeated"
      if text_share > most_text:
        return f"{text_share:.0%} of the text in repeated {name}"
    return ""

  def _of_ngrams(self, words: WordHashes) -> Iterator[tuple[str, np.ndarray, NgramBound]]:
    """Yields (what is meant, its share of each document, the bound)."""
    for pair in self.top:
      bound = NgramBound(int(pair[0]), pair[1])
      yield f"one {bound.n}-gram", top_shares(words, bound.n), bound
    bounds = sorted(NgramBound(int(pair[0]), pair[1]) for pair in self.repeated)
    lowest = min((bound.share for bound in bounds), default=0.0)
    places, count = np.arange(len(words.counts)), len(words.counts)
    for bound in bounds:
      shares = np.zeros(count)
      shares[places] = found = repeated_shares(words, bound.n)
      yield f"repeated {bound.n}-grams", shares, bound
      # Words in repeated n-grams are in repeated shorter ones, too, so few documents need the longer ones.
      left = found > lowest
      words, places = words.take(left), places[left]


def top_shares(words: WordHashes, n: int) -> np.ndarray:
  """Computes the share of each document's text that its most frequent n-gram has.

  An n-gram that occurs once counts 0. Occurrences that overlap count in full, so a share may be above 1.

  Returns:
    float64 [D].
  """
  ngrams = words.ngrams(n)
  order, first, counts = _groups(ngrams)
  first, counts = first[counts > 1], counts[counts > 1]
  ends = np.concatenate([[0], np.cumsum(words.lengths)])
  starts = ngrams.starts[order[first]]
  texts = counts * (ends[starts + n] - ends[starts])
  highest = np.zeros(len(words.counts))
  np.maximum.at(highest, ngrams.documents[order[first]], texts)
  return highest / _characters(words)


def repeated_shares(words: WordHashes, n: int) -> np.ndarray:
  """Computes the share of each document's text in n-grams that it had before.

  The first occurrence of an n-gram does not count. A word in several repeated n-grams counts once.

  Returns:
    float64 [D].
  """
  ngrams = words.ngrams(n)
  order, first, counts = _groups(ngrams)
  starts = ngrams.starts[order]
  if len(starts):
    starts = starts[starts != np.repeat(np.minimum.reduceat(starts, first), counts)]
  depth = np.zeros(len(words.hashes) + 1, np.int64)
  depth[starts] += 1
  depth[starts + n] -= 1
  covered = np.cumsum(depth[:-1]) > 0
  texts = np.bincount(words.documents, weights=words.lengths * covered, minlength=len(words.counts))
  return texts / _characters(words)


def _groups(ngrams: Ngrams) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Brings equal n-grams of a document together.

  Returns:
    (an order of the n-grams, the place in it where each group of equal ones begins, the size of each group).
  """
  keys = mixed(ngrams.hashes ^ mixed(ngrams.documents.astype(np.uint64)))
  order = np.argsort(keys)
  keys = keys[order]
  first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.zeros(0, np.int64)
  return order, first, np.diff(np.concatenate([first, [len(keys)]]))


def _characters(words: WordHashes) -> np.ndarray:
  return np.maximum(np.bincount(words.documents, weights=words.lengths, minlength=len(words.counts)), 1)
