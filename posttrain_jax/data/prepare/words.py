"""Turns the words of many documents into numbers, and those into numbers of their n-grams.

A word is a run of letters and digits, after Unicode normalisation (NFKC) and without case. A sign of a script that is
written without spaces between words (Chinese, Japanese) is a word of its own. Words and n-grams are 64-bit hashes, so
two different ones are the same number with probability 2⁻⁶⁴. All documents of a block share flat arrays, since a call
of NumPy for each document would take longer than the work.
"""

import dataclasses
import hashlib
import re
import unicodedata
from collections.abc import Sequence

import numpy as np

_SIGNS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_SIGNS}]|[^\W_{_SIGNS}]+")
_ASCII_WORD = re.compile(r"[^\W_]+", re.ASCII)  # the same for text in ASCII, and faster
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd; 2⁶⁴ over the golden ratio


@dataclasses.dataclass(frozen=True)
class Ngrams:
  """Holds all n-grams of a block of documents, in order.

  Attributes:
    hashes: uint64 [M].
    starts: int64 [M], the position of an n-gram's first word among the block's words.
    documents: int64 [M], the position of its document in the block.
  """

  hashes: np.ndarray
  starts: np.ndarray
  documents: np.ndarray


@dataclasses.dataclass(frozen=True)
class WordHashes:
  """Holds the words of a block of D documents, W in all.

  Attributes:
    hashes: uint64 [W].
    lengths: int64 [W], characters of each word.
    offsets: int64 [D + 1]; document d has the words from offsets[d] to offsets[d + 1].
  """

  hashes: np.ndarray
  lengths: np.ndarray
  offsets: np.ndarray

  @property
  def counts(self) -> np.ndarray:
    """Counts the words of each document: int64 [D]."""
    return np.diff(self.offsets)

  @property
  def documents(self) -> np.ndarray:
    """Returns each word's document: int64 [W]."""
    return np.repeat(np.arange(len(self.offsets) - 1), self.counts)

  def ngrams(self, n: int) -> Ngrams:
    """Returns all runs of n words within a document."""
    documents = self.documents
    total = max(len(self.hashes) - n + 1, 0)
    starts = np.flatnonzero(documents[:total] == documents[n - 1 :][:total])
    hashes = np.zeros(len(starts), np.uint64)
    for k in range(n):
      hashes = hashes * _FACTOR + self.hashes[starts + k]
    return Ngrams(mixed(hashes), starts, documents[starts])

  def take(self, kept: np.ndarray) -> "WordHashes":
    """Returns the words of the documents that a mask, bool [D], keeps."""
    words = np.repeat(kept, self.counts)
    offsets = np.concatenate([[0], np.cumsum(self.counts[kept])])
    return WordHashes(self.hashes[words], self.lengths[words], offsets)


class _ByWord(dict):
  """Computes each word's hash once."""

  def __missing__(self, word: str) -> int:
    digest = hashlib.blake2b(word.encode("utf-8"), digest_size=8).digest()
    found = self[word] = int.from_bytes(digest, "little")
    return found


def split(text: str) -> list[str]:
  """Returns the words of a text, normalised."""
  if text.isascii():
    return _ASCII_WORD.findall(text.lower())
  return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def hash_words(texts: Sequence[str]) -> WordHashes:
  """Hashes the words of a block of documents."""
  by_word = _ByWord()  # of one block, so that it stays small
  hashes, lengths = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
  for text in texts:
    words = split(text)
    hashes.append(np.fromiter(map(by_word.__getitem__, words), np.uint64, len(words)))
    lengths.append(np.fromiter(map(len, words), np.int64, len(words)))
  offsets = np.cumsum([len(each) for each in hashes])
  return WordHashes(np.concatenate(hashes), np.concatenate(lengths), offsets)


def mixed(hashes: np.ndarray) -> np.ndarray:
  """Spreads every bit of a uint64 over all bits (the finaliser of SplitMix64)."""
  hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return hashes ^ (hashes >> np.uint64(31))
