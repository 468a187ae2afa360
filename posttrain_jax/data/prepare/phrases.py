"""Finds n-grams of lists in documents: toxic phrases, and passages of evaluation sets."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from posttrain_jax.data.prepare.words import WordHashes, hash_words


@dataclasses.dataclass(frozen=True)
class PhraseHits:
  """Holds where a block of D documents has listed phrases.

  Attributes:
    words: int64 [D], words that stand in one.
    first: int64 [D], the position in the list of the first one; −1 without one.
  """

  words: np.ndarray
  first: np.ndarray


class Phrases:
  """Holds a list of phrases by their hashes, and finds them.

  A phrase is a run of words without regard to case, punctuation and spaces.

  Attributes:
    left_out: texts that are too short to look for.
  """

  def __init__(self, texts: Sequence[str], *, n: int | None = None, shortest: int = 1):
    """Hashes phrases.

    Args:
      texts: each is a phrase.
      n: of a text with more words, every run of n words is a phrase; None: a text is one phrase, however long.
      shortest: fewest words of a text that is looked for.
    """
    words = hash_words(texts)
    lengths = words.counts if n is None else np.minimum(words.counts, n)
    lengths[words.counts < max(shortest, 1)] = 0
    self.left_out = int((lengths == 0).sum())
    self._lists: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for length in np.unique(lengths[lengths > 0]).tolist():
      places = np.flatnonzero(lengths == length)
      ngrams = words.take(lengths == length).ngrams(length)
      hashes, which = np.unique(ngrams.hashes, return_index=True)
      self._lists[length] = hashes, places[ngrams.documents[which]]

  def __len__(self) -> int:
    """Counts different phrases."""
    return sum(len(hashes) for hashes, _ in self._lists.values())

  def find(self, words: WordHashes) -> PhraseHits:
    """Returns the phrases in a block of documents."""
    depth = np.zeros(len(words.hashes) + 1, np.int64)
    earliest = np.full(len(words.counts), len(words.hashes), np.int64)
    first = np.full(len(words.counts), -1, np.int64)
    for length, (hashes, places) in sorted(self._lists.items()):
      ngrams = words.ngrams(length)
      at = np.minimum(np.searchsorted(hashes, ngrams.hashes), len(hashes) - 1)
      hits = np.flatnonzero(hashes[at] == ngrams.hashes)
      starts = ngrams.starts[hits]
      depth[starts] += 1
      depth[starts + length] -= 1
      # The hits are in order, so the first one of each document is its earliest.
      documents, which = np.unique(ngrams.documents[hits], return_index=True)
      sooner = starts[which] < earliest[documents]
      earliest[documents[sooner]] = starts[which][sooner]
      first[documents[sooner]] = places[at[hits[which]]][sooner]
    covered = np.cumsum(depth[:-1]) > 0
    return PhraseHits(np.bincount(words.documents, weights=covered, minlength=len(first)).astype(np.int64), first)
