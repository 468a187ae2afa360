"""Judges by rule whether documents are in the wanted languages.

A language is known by the script of its letters and by its most frequent words. No model is needed. Two languages that
share both are not told apart.
"""

import dataclasses
import functools
import unicodedata
from collections.abc import Sequence

import numpy as np

from posttrain_jax.data.prepare.refusal import check_share, refuse
from posttrain_jax.data.prepare.words import WordHashes, hash_words, split


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageRule:
  """Drops documents in other scripts, or with few of the language's frequent words.

  Attributes:
    scripts: scripts of letters, as Unicode names them: LATIN, CYRILLIC, CJK, ARABIC, ...; none for any.
    share: lowest share of letters in these scripts.
    words: frequent words of the language, such as "the".
    different: how many different ones of them a document must have.
    word_share: lowest share of them among the document's words.
  """

  scripts: tuple[str, ...]
  share: float
  words: tuple[str, ...]
  different: int
  word_share: float

  def __post_init__(self):
    """Raises InputError if a script is unknown or words are asked for that are not named."""
    for name in ("share", "word_share"):
      check_share(f"language.{name}", getattr(self, name))
    known = _known_scripts() if self.scripts else frozenset()
    for script in self.scripts:
      if script not in known:
        refuse(f"language.scripts: {script!r}, expected Unicode's names of scripts, such as LATIN, CYRILLIC or CJK")
    for word in self.words:
      if len(split(word)) != 1:
        refuse(f"language.words: {word!r}, expected single words")
    if not 0 <= self.different <= len(set(self.words)):
      refuse(f"language.different: {self.different}, expected 0 to {len(set(self.words))}, the number of words")

  def __call__(self, texts: Sequence[str], words: WordHashes) -> list[str]:
    """Returns for each document why it is dropped; empty if it is not."""
    shares = [self.script_share(text) if self.scripts else 1.0 for text in texts]
    count = len(texts)
    different, frequent = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for hash_ in hash_words([" ".join(sorted(set(self.words)))]).hashes:
      found = np.bincount(words.documents[words.hashes == hash_], minlength=count)
      different += found > 0
      frequent += found
    word_shares = frequent / np.maximum(words.counts, 1)
    return [
      f"{share:.0%} of letters in {' or '.join(self.scripts)}"
      if share < self.share
      else f"{seen} different frequent words"
      if seen < self.different
      else f"{word_share:.1%} frequent words"
      if self.words and word_share < self.word_share
      else ""
      for share, seen, word_share in zip(shares, different.tolist(), word_shares.tolist())
    ]

  def script_share(self, text: str) -> float:
    """Computes the share of the scripts among a text's letters; 1 without a letter."""
    if text.isascii():
      return 1.0 if "LATIN" in self.scripts or not any(map(str.isalpha, text)) else 0.0
    points, counts = np.unique(np.frombuffer(text.encode("utf-32-le"), np.uint32), return_counts=True)
    letters = wanted = 0
    for point, count in zip(points.tolist(), counts.tolist()):
      script = _script(point)
      letters += count if script else 0
      wanted += count if script in self.scripts else 0
    return wanted / letters if letters else 1.0


@functools.lru_cache(maxsize=2**14)
def _script(point: int) -> str:
  """Returns the script of a letter; empty for what is no letter."""
  character = chr(point)
  return unicodedata.name(character, "?").split(" ")[0].split("-")[0] if character.isalpha() else ""


@functools.cache
def _known_scripts() -> frozenset[str]:
  return frozenset(_script.__wrapped__(point) for point in range(0x30000)) - {""}
