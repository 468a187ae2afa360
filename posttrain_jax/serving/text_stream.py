"""Turns the tokens of a choice into text as they come."""

from collections.abc import Sequence

import numpy as np

from posttrain_jax.assembly.judges import answer_text
from posttrain_jax.data.tokenizer import Tokenizer

_HALF = "\N{REPLACEMENT CHARACTER}"  # what half a character is decoded as


class TextStream:
  """Gives out the text of one choice bit by bit.

  What it gave out is never taken back. It holds back what may still change: half a character, and an ending that may
  become a stop string.
  """

  def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]):
    """Starts without tokens.

    Args:
      tokenizer: the model's.
      stop: texts that end the choice, and are not part of it.
    """
    self._tokenizer, self._stop = tokenizer, tuple(stop)
    self._tokens: list[int] = []
    self._given = ""

  def add(self, tokens: Sequence[int]) -> str:
    """Takes the next tokens, and returns what is new and certain of the text."""
    self._tokens += map(int, tokens)
    text = self._tokenizer.decode(self._tokens)
    return self._give(text[: _certain(text, self._stop)])

  def end(self, tokens: Sequence[int], *, stopped: bool) -> str:
    """Takes the last tokens, and returns the rest of the text.

    Args:
      tokens: the last ones.
      stopped: whether the choice ended before its cap. A token that ended it is no text.
    """
    self._tokens += map(int, tokens)
    text = answer_text(self._tokenizer, np.array(self._tokens, np.int32), ended=stopped)
    ends = [text.index(stop) for stop in self._stop if stop in text]
    return self._give(text[: min(ends, default=len(text))])

  def _give(self, text: str) -> str:
    if not text.startswith(self._given):
      return ""  # the tokeniser wrote the earlier tokens otherwise; the end tells the difference
    new = text[len(self._given) :]
    self._given = text
    return new


def _certain(text: str, stop: Sequence[str]) -> int:
  """Returns how many characters of a text cannot change or become part of a stop string."""
  most = len(text.rstrip(_HALF))
  for each in stop:
    if each in text:
      most = min(most, text.index(each))
    begun = range(min(len(each) - 1, len(text)), 0, -1)
    most = min(most, len(text) - next((count for count in begun if text.endswith(each[:count])), 0))
  return most
