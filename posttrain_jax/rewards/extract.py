r"""Finds the final answer in a text, with one function for each convention.

Each function returns None if the text does not follow its convention. All run in time linear in the text, whatever it
contains, and never evaluate what they find. Which answers are equal is decided in `equality.py`. This module must not
import jax, because reward workers import it.

`answer_line` follows the convention of DAPO's script with two differences: the last `Answer:` counts even if two stand
on one line, and Markdown emphasis around the answer is removed.
"""

import collections
import enum
import re

_ANSWER_MARKER = re.compile(r"(?ai)\banswer\s*:")
_ANSWER_LINE_WINDOW = 300  # characters
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # the first branch skips escaped characters: \{ and \} do not count
# A sign belongs to the number unless it is a minus between two terms. A digit right after a letter (x2) starts no
# number. Powers and digits of other scripts belong to the match, so that 10^10 is not read as 10: it equals no number.
# After the first digit the pattern cannot fail, and its quantifiers are possessive, so it takes linear time.
_NUMBER_RUN = re.compile(
  r"(?:(?<![\w)\]}^/.,])[-+−]\$?)?+(?<![\w^/])\.?+[0-9]"
  r"(?:[\d.,/²³¹⁰-₉]|[eE][-+]?+[0-9]|\^\{?+[-+−]?+|\*\*(?=[0-9]))*+"
)


class AnswerStyle(enum.StrEnum):
  """Lists the conventions for stating a final answer."""

  ANSWER_LINE = "answer_line"  # Answer: 42
  BOXED = "boxed"  # \boxed{42}
  TAG = "tag"  # <answer>42</answer>
  LAST_NUMBER = "last_number"
  ANY = "any"  # tries the four in this order and takes the first that is found


def answer_line(text: str) -> str | None:
  """Returns what follows the last `Answer:`, up to the end of that line (DAPO, 2503.14476).

  The marker may be in upper or lower case. All of it must lie within the last 300 characters. The answer may start on
  the next line.
  """
  tail = text[-_ANSWER_LINE_WINDOW:]
  marker = _last_match(_ANSWER_MARKER, tail)
  if marker is None:
    return None
  lines = tail[marker.end() :].strip(" \t\r\n*_`").splitlines()
  return _unboxed(lines[0].strip(" \t*_`")) if lines else None


def boxed(text: str) -> str | None:
  r"""Returns the content of the last `\boxed{...}`.

  None if that one is never closed, even if an earlier one is. In nested boxes the last opening one counts.
  """
  marker = "\\boxed{"
  position = text.rfind(marker)
  if position < 0:
    return None
  start = position + len(marker)
  depth = 1
  for match in _BRACE.finditer(text, start):
    if match[0] == "{":
      depth += 1
    elif match[0] == "}":
      depth -= 1
      if depth == 0:
        return text[start : match.start()].strip() or None
  return None


def tag(text: str) -> str | None:
  """Returns the text between the last `<answer>` and its `</answer>`; None if unclosed."""
  opening, closing = "<answer>", "</answer>"
  position = text.rfind(opening)
  if position < 0:
    return None
  start = position + len(opening)
  end = text.find(closing, start)
  return _unboxed(text[start:end].strip()) if end >= 0 else None


def last_number(text: str) -> str | None:
  """Returns the last number as it is written, such as "-1,234.50", "3/4", "2e5" or "10^10".

  Only the digits 0-9 start a number. Text such as "1,2,3" or "10^10" is returned whole, so that it equals no number
  instead of being read as its last part.
  """
  match = _last_match(_NUMBER_RUN, text)
  return match[0].rstrip(".,/") if match else None


def find_answer(text: str, style: AnswerStyle = AnswerStyle.ANY) -> str | None:
  """Returns the final answer of `text` by the convention `style`, or None."""
  styles = tuple(_EXTRACTORS) if style == AnswerStyle.ANY else (style,)
  for each in styles:
    answer = _EXTRACTORS[each](text)
    if answer is not None:
      return answer
  return None


def reference_answer(reference: object) -> str:
  r"""Returns the final answer of a data row's reference.

  The reference is a number, a short answer, or a worked solution. A worked solution has GSM8K's `#### 72` at its end or
  MATH's `\boxed{72}`; any other reference is the answer itself.

  Raises:
    ValueError: if the reference is missing, empty, or neither text nor a number.
  """
  if isinstance(reference, bool) or not isinstance(reference, str | int | float):
    raise ValueError(f"reference answer is {reference!r}; expected text or a number")
  text = str(reference).strip()
  if "####" in text:
    answer = text.rsplit("####", 1)[1].strip().split("\n")[0].strip()
  elif "\\boxed{" in text:
    answer = boxed(text) or ""
  else:
    answer = text
  if not answer:
    raise ValueError(f"reference answer {text[-60:]!r} is empty; expected text or a number")
  return answer


def _last_match(pattern: re.Pattern, text: str) -> re.Match | None:
  matches = collections.deque(pattern.finditer(text), maxlen=1)
  return matches[0] if matches else None


def _unboxed(answer: str) -> str | None:
  r"""Removes a box, as in `\boxed{42}`, from an answer; an empty answer becomes None."""
  return (boxed(answer) if "\\boxed{" in answer else answer) or None


_EXTRACTORS = {
  AnswerStyle.ANSWER_LINE: answer_line,
  AnswerStyle.BOXED: boxed,
  AnswerStyle.TAG: tag,
  AnswerStyle.LAST_NUMBER: last_number,
}
