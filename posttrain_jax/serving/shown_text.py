"""Prepares a model's words for a terminal, piece by piece.

What a terminal would obey (escape sequences, other control characters, changes of the writing direction) is replaced by
a sign. Thoughts are told apart from the answer by their tags, which may lie across two pieces.
"""

import re
from typing import NamedTuple

from posttrain_jax.data.assistant_world.reasoning import END, START

_UNSEEN = "\N{REPLACEMENT CHARACTER}"
# C0 but tab and line end, DEL and C1, line and paragraph separators, marks and overrides of the direction, half
# characters.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def harmless(text: str) -> str:
  """Replaces the characters that a terminal obeys; C0 characters by their pictures, such as "␛"."""
  return _OBEYED.sub(lambda found: chr(0x2400 + ord(found[0])) if found[0] < " " else _UNSEEN, text)


class ShownPiece(NamedTuple):
  """Holds a part of an answer.

  Attributes:
    text: without what a terminal obeys.
    is_thought: whether it is the reasoning before the answer, tags included.
  """

  text: str
  is_thought: bool


class ShownAnswer:
  """Takes the pieces of one answer and returns what is shown of it."""

  def __init__(self):
    self._held, self._thinks = "", False

  def add(self, piece: str) -> list[ShownPiece]:
    """Returns what can be shown after a piece; the beginning of a tag is held back."""
    text, self._held = self._held + piece, ""
    found = []
    while text:
      tag = END if self._thinks else START
      before, there, after = text.partition(tag)
      if there and self._thinks:
        found.append((before + tag, True))
        self._thinks = False
      elif there:
        found += [(before, False), (tag, True)]
        self._thinks = True
      else:
        held = next((n for n in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:n])), 0)
        found.append((text[: len(text) - held], self._thinks))
        self._held = text[len(text) - held :]
      text = after
    return [ShownPiece(harmless(part), thinks) for part, thinks in found if part]

  def end(self) -> list[ShownPiece]:
    """Returns what was held back."""
    text, self._held = self._held, ""
    return [ShownPiece(harmless(text), self._thinks)] if text else []
