"""Drops documents that have passages of evaluation sets in them.

A passage is a run of 13 words, as GPT-3 (arXiv:2005.14165, appendix C) and most work since takes it. Case, punctuation
and spaces do not count. Where GPT-3 cuts the passage out, here the whole document is dropped.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

from posttrain_jax.data.prepare.phrases import Phrases
from posttrain_jax.data.prepare.refusal import refuse
from posttrain_jax.data.prepare.words import WordHashes


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContaminationRule:
  """Drops documents that share a passage with an evaluation set.

  Attributes:
    paths: JSONL files of evaluation sets, plain or gzipped.
    fields: fields whose texts are looked for; a row must have at least one of them. Texts in lists and objects count.
    words: n, words of a passage.
    shortest: fewest words of a text that is looked for; one with less than n words is a passage of its own.
  """

  paths: tuple[str, ...]
  fields: tuple[str, ...]
  words: int
  shortest: int

  def __post_init__(self):
    """Raises InputError if a number is out of range or no field is named."""
    if self.words < 1:
      refuse(f"contamination.words: {self.words}, expected at least 1")
    if not 1 <= self.shortest <= self.words:
      refuse(f"contamination.shortest: {self.shortest}, expected 1 to contamination.words = {self.words}")
    if self.paths and not self.fields:
      refuse("contamination.fields: none, expected the fields of the evaluation sets that have text")

  def __call__(self, texts: Sequence[str], words: WordHashes) -> list[str]:
    """Returns for each document why it is dropped; empty if it is not."""
    phrases, sources = self._phrases
    hits = phrases.find(words)
    return [f"a passage of {sources[first]}" if first >= 0 else "" for first in hits.first.tolist()]

  def load(self) -> dict[str, int]:
    """Reads the evaluation sets.

    Returns:
      Counts of what is looked for.

    Raises:
      InputError: if a file cannot be read, or if a row has none of the fields.
    """
    phrases, sources = self._phrases
    return {"texts": len(sources), "passages": len(phrases), "too_short": phrases.left_out}

  @functools.cached_property
  def _phrases(self) -> tuple[Phrases, list[str]]:
    """Returns the passages, and FILE:LINE of each text."""
    from posttrain_jax.data.prompts import read_jsonl  # imports JAX

    found, sources = [], []
    for path in self.paths:
      for row in read_jsonl(path):
        named = [row.columns[field] for field in self.fields if field in row.columns]
        if not named:
          refuse(
            f"contamination.fields: {row.source} has none of {', '.join(self.fields)}; found "
            f"{', '.join(row.columns) or 'none'}"
          )
        texts = [text for value in named for text in _texts(value)]
        found += texts
        sources += [row.source] * len(texts)
    return Phrases(found, n=self.words, shortest=self.shortest), sources


def _texts(value: Any) -> Iterator[str]:
  """Yields the texts in a value, however deep they are in lists and objects."""
  if isinstance(value, str):
    yield value
  elif isinstance(value, dict | list):
    for each in value.values() if isinstance(value, dict) else value:
      yield from _texts(each)
