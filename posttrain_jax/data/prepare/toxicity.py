"""Drops documents in which listed words are frequent."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence

from posttrain_jax.data.prepare.phrases import Phrases
from posttrain_jax.data.prepare.refusal import check_share, refuse
from posttrain_jax.data.prepare.words import WordHashes, split
from posttrain_jax.local_path import local_path


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToxicityRule:
  """Drops documents by their share of listed words.

  Attributes:
    words: listed words and phrases; case and punctuation do not count.
    path: file of more of them, one a line; lines that begin with # are comments; empty for none.
    share: highest share of a document's words that stand in a listed word or phrase.
  """

  words: tuple[str, ...]
  path: str
  share: float

  def __post_init__(self):
    """Raises InputError if the share is none, or an entry has no word."""
    check_share("toxicity.share", self.share)
    for word in self.words:
      if not split(word):
        refuse(f"toxicity.words: {word!r}, expected words")

  def __call__(self, texts: Sequence[str], words: WordHashes) -> list[str]:
    """Returns for each document why it is dropped; empty if it is not."""
    phrases, listed = self._phrases
    hits = phrases.find(words)
    shares = hits.words / words.counts.clip(min=1)
    return [
      f"{share:.1%} listed words, such as {listed[first]!r}" if share > self.share else ""
      for share, first in zip(shares.tolist(), hits.first.tolist())
    ]

  def load(self) -> int:
    """Reads the list, and counts its different phrases.

    Raises:
      InputError: if the file cannot be read or has no phrase.
    """
    return len(self._phrases[0])

  @functools.cached_property
  def _phrases(self) -> tuple[Phrases, list[str]]:
    listed = [*self.words, *(_read(local_path(self.path, "toxicity.path")) if self.path else [])]
    return Phrases(listed), listed


def _read(path: pathlib.Path) -> list[str]:
  from posttrain_jax.data import jsonl_text  # imports JAX

  lines = map(str.strip, jsonl_text.read_text(path).split("\n"))
  found = [line for line in lines if line and not line.startswith("#")]
  for line in found:
    if not split(line):
      refuse(f"toxicity.path: {path}: {line!r} has no word, expected a word or phrase a line")
  if not found:
    refuse(f"toxicity.path: {path}: no words, expected a word or phrase a line")
  return found
