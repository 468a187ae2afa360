"""Computes MinHash signatures of documents, and the keys of their bands.

The estimator of the Jaccard similarity of two sets is the share of equal entries in their signatures (Broder 1997).
Documents whose signatures agree in all entries of one band are candidates (locality-sensitive hashing): with b bands of
r entries, two of similarity s become candidates with probability 1 − (1 − sʳ)ᵇ. The library rensa computes the
signatures; its index would hold all documents in memory, so the bands are compared on disk (`data.prepare.near`).
"""

import dataclasses
import os

import numpy as np

from posttrain_jax.data.prepare.refusal import refuse
from posttrain_jax.data.prepare.words import WordHashes, mixed


@dataclasses.dataclass(frozen=True, kw_only=True)
class NearSettings:
  """Holds the `near` section.

  Attributes:
    threshold: estimated Jaccard similarity from which on two documents are near duplicates; 0: no such step.
    words: n, words of the n-grams whose sets are compared.
    permutations: entries of a signature.
    bands: parts of a signature that make candidates.
  """

  threshold: float
  words: int
  permutations: int
  bands: int

  def __post_init__(self):
    """Raises InputError if a number is out of range, or bands do not divide a signature."""
    if not 0 <= self.threshold <= 1:
      refuse(f"near.threshold: {self.threshold}, expected 0 to 1")
    if min(self.words, self.permutations, self.bands) < 1:
      refuse("near: words, permutations and bands must be at least 1")
    if self.permutations % self.bands:
      refuse(f"near.bands: {self.bands} does not divide near.permutations = {self.permutations}")


def load_library() -> str:
  """Imports the library that computes signatures.

  Returns:
    Its name and the version of its algorithm, on which the signatures depend.

  Raises:
    InputError: if it is not installed.
  """
  try:
    return f"rensa, algorithm {_minhash().ALGORITHM_VERSION}"
  except ImportError as error:
    refuse(f"near.threshold: near duplicates need rensa ({error}): pip install 'posttrain_jax[prepare]'; 0 is without")


def signatures(words: WordHashes, wordless: np.ndarray, settings: NearSettings, seed: int) -> np.ndarray:
  """Computes the signatures of a block of D documents.

  Args:
    words: of the documents. One with fewer words than an n-gram has a set of one: all its words.
    wordless: uint64 [D], what stands for the words of a document without a word, so that such documents differ.
    settings: n and the number of entries.
    seed: of the hash functions.

  Returns:
    uint32 [D, permutations].
  """
  lengths = np.minimum(words.counts, settings.words)
  owners, hashes = [np.flatnonzero(lengths == 0)], [wordless[lengths == 0]]
  for length in np.unique(lengths[lengths > 0]).tolist():
    ngrams = words.take(lengths == length).ngrams(length)
    owners.append(np.flatnonzero(lengths == length)[ngrams.documents])
    hashes.append(ngrams.hashes)
  order = np.argsort(np.concatenate(owners), kind="stable")
  sizes = np.bincount(np.concatenate(owners), minlength=len(lengths))
  offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint64)
  made = _minhash().digest_matrix_from_flat_token_hashes(
    np.concatenate(hashes)[order], offsets, settings.permutations, seed
  )
  return np.array(made.to_rows(), np.uint32).reshape(len(lengths), settings.permutations)


def band_keys(signatures_: np.ndarray, bands: int) -> np.ndarray:
  """Hashes each band of signatures, uint32 [D, permutations], into a key: uint64 [bands, D]."""
  parts = signatures_.reshape(len(signatures_), bands, -1).astype(np.uint64)
  keys = np.zeros((len(signatures_), bands), np.uint64)
  for entry in range(parts.shape[2]):
    keys = mixed(keys * np.uint64(0x9E3779B97F4A7C15) + parts[:, :, entry])
  return np.ascontiguousarray(keys.T)


def _minhash() -> type:
  os.environ.setdefault("RAYON_NUM_THREADS", "1")  # the workers are the parallelism
  from rensa import RMinHash

  return RMinHash
