"""Screens one block of documents: drops by rule, and computes what finds duplicates among blocks.

This is the first pass of a preparation, and the one that takes the time. What it makes of a block depends on nothing
but the block and the settings, so blocks may be screened by any number of workers.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from posttrain_jax.data.prepare.documents import InputSettings, RawDocument, TextPiece, Unreadable, documents
from posttrain_jax.data.prepare.signatures import NearSettings, band_keys, signatures
from posttrain_jax.data.prepare.words import WordHashes, hash_words

# What says for each document of a block why it is dropped; empty if it is not.
Rule = Callable[[Sequence[str], WordHashes], list[str]]
UNREADABLE = "unreadable"
SHOWN_CHARACTERS = 400  # of a sample


@dataclasses.dataclass(frozen=True)
class ScreenedBlock:
  """Holds what is known of a block of documents, D of which the rules keep.

  Attributes:
    texts: uint8 [sum of sizes], the kept documents one after another, in UTF-8.
    sizes: int64 [D], bytes of each.
    files: int64 [D], position of its file in the input.
    lines: int64 [D], number of its first line.
    exact: uint64 [D, 2], a hash of its text.
    bands: uint64 [bands, D], keys of its signature's bands; [0, D] without near duplicates.
    signatures: uint32 [D, permutations]; [D, 0] without.
    counts: for each step documents and bytes that it dropped, and how many documents it would have dropped alone;
      those of "read" are all.
    samples: for each step a few dropped documents, with the reason.
  """

  texts: np.ndarray
  sizes: np.ndarray
  files: np.ndarray
  lines: np.ndarray
  exact: np.ndarray
  bands: np.ndarray
  signatures: np.ndarray
  counts: Mapping[str, Mapping[str, int]]
  samples: Mapping[str, list[dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Screening:
  """Screens blocks.

  Attributes:
    input: how documents are read.
    rules: by name, in the order in which they are asked.
    near: how signatures are made.
    seed: of the signatures.
    samples: dropped documents of each step that are shown.
  """

  input: InputSettings
  rules: Mapping[str, Rule]
  near: NearSettings
  seed: int
  samples: int

  def __call__(self, block: Sequence[TextPiece]) -> ScreenedBlock:
    """Reads a block's documents and asks the rules about them."""
    found = [document for piece in block for document in documents(piece, self.input)]
    readable = [document for document in found if not document.problem]
    texts = [document.text for document in readable]
    words = hash_words(texts)
    verdicts = {name: rule(texts, words) for name, rule in self.rules.items()}
    sizes = np.array([len(text.encode()) for text in texts], np.int64)
    counts = {"read": {"documents": len(found), "bytes": int(sizes.sum())}}
    unreadable = [document for document in found if document.problem]
    lost = sum(len(document.text.encode("utf-8", "replace")) for document in unreadable)
    counts["read"]["bytes"] += lost
    counts[UNREADABLE] = {"documents": len(unreadable), "bytes": lost, "alone": len(unreadable)}
    shown = [sample(each, each.problem) for each in unreadable]
    stops = self.input.unreadable == Unreadable.ERROR  # at the first one
    samples = {UNREADABLE: shown[:1] if stops else chosen(shown, self.samples)}
    kept = np.ones(len(readable), bool)
    for name, reasons in verdicts.items():
      is_against = np.array([bool(reason) for reason in reasons], bool)
      dropped = is_against & kept
      kept &= ~is_against
      counts[name] = {
        "documents": int(dropped.sum()),
        "bytes": int(sizes[dropped].sum()),
        "alone": int(is_against.sum()),
      }
      samples[name] = chosen([sample(readable[i], reasons[i]) for i in np.flatnonzero(dropped)], self.samples)
    return self._of_kept([readable[i] for i in np.flatnonzero(kept)], words.take(kept), counts, samples)

  def _of_kept(self, kept: Sequence[RawDocument], words: WordHashes, counts, samples) -> ScreenedBlock:
    contents = [document.text.encode() for document in kept]
    digests = b"".join(hashlib.blake2b(content.strip(), digest_size=16).digest() for content in contents)
    exact = np.frombuffer(digests, "<u8").reshape(-1, 2)
    has_near = self.near.threshold > 0
    made = np.zeros((len(kept), self.near.permutations * has_near), np.uint32)
    keys = np.zeros((self.near.bands * has_near, len(kept)), np.uint64)
    if has_near and kept:
      made = signatures(words, exact[:, 0], self.near, self.seed)
      keys = band_keys(made, self.near.bands)
    return ScreenedBlock(
      texts=np.frombuffer(b"".join(contents), np.uint8),
      sizes=np.array([len(content) for content in contents], np.int64),
      files=np.array([document.file for document in kept], np.int64),
      lines=np.array([document.line for document in kept], np.int64),
      exact=exact,
      bands=keys,
      signatures=made,
      counts=counts,
      samples=samples,
    )


def sample(document: RawDocument, reason: str) -> dict[str, Any]:
  """Describes a dropped document for the report."""
  text = document.text[: SHOWN_CHARACTERS * 2].encode("utf-8", "replace").decode()  # half characters become signs
  return {"file": document.file, "line": document.line, "reason": reason, "text": text[:SHOWN_CHARACTERS]}


def chosen(samples: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
  """Chooses samples by a hash of their place, whatever the grouping of documents."""

  def draw(each: dict[str, Any]) -> tuple[bytes, int, int]:
    place = f"{each['file']}:{each['line']}"
    return hashlib.blake2b(place.encode(), digest_size=8).digest(), each["file"], each["line"]

  return sorted(samples, key=draw)[:count]
