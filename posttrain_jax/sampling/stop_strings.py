"""Finds the token with which an answer's text first has one of its stop strings.

A stop string may span tokens, begin or end inside of one, and begin in an earlier dispatch than it ends. Only the end
of the answer is decoded again, so the cost of a dispatch does not grow with the answer.
"""

from collections.abc import Callable, Sequence

import numpy as np

Decode = Callable[[Sequence[int]], str]

# Text from the middle of an answer may begin with halves of a character, and may lack a space that the tokeniser writes
# at a word's start. So a little more is decoded than the longest stop string has characters.
_MARGIN = 8


def tokens_to_stop(parts: Sequence[np.ndarray], strings: Sequence[str], decode: Decode) -> int | None:
  """Counts the new tokens up to the one that completes a stop string.

  Args:
    parts: the answer in pieces, int32 [n] each. The last one is new. Those before have no stop string.
    strings: the stop strings, none empty.
    decode: turns ids into text.

  Returns:
    How many tokens of the last part the answer keeps, the one that completes a stop string included; None if the text
    has no stop string.
  """
  *earlier, new = parts
  before = _end_of(earlier, max(map(len, strings)) + _MARGIN, decode)
  has = lambda count: any(map(decode([*before, *new[:count]]).__contains__, strings))  # noqa: E731
  if not len(new) or not has(len(new)):
    return None
  return next(count for count in range(1, len(new) + 1) if has(count))


def _end_of(parts: Sequence[np.ndarray], characters: int, decode: Decode) -> list[int]:
  """Returns the last tokens of parts, as many parts as give so many characters of text."""
  found: list[int] = []
  for part in reversed(parts):
    found = [*part.tolist(), *found]
    if len(decode(found)) >= characters:
      break
  return found
