"""Judges documents by their length and by their signs, with the rules of MassiveText.

The rules and their usual bounds are those of Gopher (arXiv:2112.11446, appendix A.1.1). A word is here what stands
between spaces, except for the length, which counts words as `data.prepare.words` does.
"""

import dataclasses
import re
from collections.abc import Sequence

from posttrain_jax.data.prepare.refusal import check_share, refuse
from posttrain_jax.data.prepare.words import WordHashes

_LETTER = re.compile(r"[^\W\d_]")
_MARKS = re.compile(r"#|…|\.\.\.")
_BULLETS = ("•", "‣", "▪", "◦", "●", "-", "*", "–")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LengthRule:
  """Drops documents that are too short or too long.

  Attributes:
    lowest: fewest words.
    highest: most words.
  """

  lowest: int
  highest: int

  def __post_init__(self):
    """Raises InputError if nothing could pass."""
    if not 0 <= self.lowest <= self.highest:
      refuse(f"length.lowest: {self.lowest} to length.highest: {self.highest}, expected 0 ≤ lowest ≤ highest")

  def __call__(self, texts: Sequence[str], words: WordHashes) -> list[str]:
    """Returns for each document why it is dropped; empty if it is not."""
    return [f"{count} words" if not self.lowest <= count <= self.highest else "" for count in words.counts.tolist()]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SymbolRule:
  """Drops documents that are made of signs rather than of words.

  Attributes:
    shortest_mean: shortest mean length of a word, in characters.
    longest_mean: longest mean length.
    marks: most hash signs and ellipses for each word.
    letters: lowest share of words with a letter.
    bullets: highest share of lines that begin with a bullet.
    ellipses: highest share of lines that end with an ellipsis.
  """

  shortest_mean: float
  longest_mean: float
  marks: float
  letters: float
  bullets: float
  ellipses: float

  def __post_init__(self):
    """Raises InputError if a share is none, or if nothing could pass."""
    for name in ("letters", "bullets", "ellipses"):
      check_share(f"symbols.{name}", getattr(self, name))
    if not 0 <= self.shortest_mean <= self.longest_mean:
      refuse(
        f"symbols.shortest_mean: {self.shortest_mean} to symbols.longest_mean: {self.longest_mean}, expected "
        "0 ≤ shortest_mean ≤ longest_mean"
      )

  def __call__(self, texts: Sequence[str], words: WordHashes) -> list[str]:
    """Returns for each document why it is dropped; empty if it is not."""
    return [self._reason(text) for text in texts]

  def _reason(self, text: str) -> str:
    words = text.split()
    count = max(len(words), 1)
    mean = sum(map(len, words)) / count
    if not self.shortest_mean <= mean <= self.longest_mean:
      return f"mean word of {mean:.1f} characters"
    marks = len(_MARKS.findall(text)) / count
    if marks > self.marks:
      return f"{marks:.2f} hash signs and ellipses a word"
    letters = sum(word.isalpha() or _LETTER.search(word) is not None for word in words) / count
    if letters < self.letters:
      return f"{letters:.0%} of words with a letter"
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    bullets = sum(line.startswith(_BULLETS) for line in lines) / max(len(lines), 1)
    if bullets > self.bullets:
      return f"{bullets:.0%} of lines with a bullet"
    ellipses = sum(line.endswith(("...", "…")) for line in lines) / max(len(lines), 1)
    return f"{ellipses:.0%} of lines with an ellipsis" if ellipses > self.ellipses else ""
