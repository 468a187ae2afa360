r"""Where the final answer stands in a text: one function per convention, each str -> str | None.

All of them run in time linear in the text, whatever is in it, and never evaluate what they find. None means that the
text does not follow the convention; which answers are equal is decided in `equality.py`. No jax: reward workers import
this module.

Differences from DAPO's script, where the convention is the same: the last `Answer:` counts even when two stand on one
line, and Markdown emphasis around the answer is removed.
"""

import collections
import enum
import re

_ANSWER_MARKER = re.compile(r"(?ai)\banswer\s*:")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped character, so that \{ and \} are no braces
# A sign counts when it is no minus between two terms. Digits glued to a letter on their left (x2) start no number.
# Powers and digits of other scripts are taken along, so that 10^10 is not read as 10 and equals no number. Once a first
# digit is found the pattern cannot fail, and its quantifiers are possessive: linear time.
_NUMBER_RUN = re.compile(
  r"(?:(?<![\w)\]}^/.,])[-+−]\$?)?+(?<![\w^/])\.?+[0-9]"
  r"(?:[\d.,/²³¹⁰-₉]|[eE][-+]?+[0-9]|\^\{?+[-+−]?+|\*\*(?=[0-9]))*+"
)


class AnswerStyle(enum.StrEnum):
  """The conventions by which a text may state its final answer."""

  ANSWER_LINE = "answer_line"  # Answer: 42
  BOXED = "boxed"  # \boxed{42}
  TAG = "tag"  # <answer>42</answer>
  LAST_NUMBER = "last_number"
  ANY = "any"  # the first of the four, in this order, that is found


def answer_line(text: str, window: int = 300) -> str | None:
  """What follows the last `Answer:` within the last `window` characters, up to the end of that line (DAPO, 2503.14476).

  Upper or lower case. The answer may start on the next line. A cut-off marker at the window's start does not count.
  """
  tail = text[-window:]
  marker = _last_match(_ANSWER_MARKER, tail)
  if marker is None:
    return None
  lines = tail[marker.end() :].strip(" \t\r\n*_`").splitlines()
  return _unboxed(lines[0].strip(" \t*_`")) if lines else None


def boxed(text: str) -> str | None:
  r"""The content of the last `\boxed{...}`; None when that one is never closed, even if an earlier one is.

  Of nested boxes the innermost last one counts.
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
  """What stands between the last `<answer>` and the `</answer>` after it; None when that one is never closed."""
  opening, closing = "<answer>", "</answer>"
  position = text.rfind(opening)
  if position < 0:
    return None
  start = position + len(opening)
  end = text.find(closing, start)
  return _unboxed(text[start:end].strip()) if end >= 0 else None


def last_number(text: str) -> str | None:
  """The last number as it is written, e.g. "-1,234.50", "3/4", "2e5" or "10^10". Only the digits 0-9 make numbers.

  Something like "1,2,3" or "10^10" is returned whole and equals no number, rather than being read as its last part.
  """
  match = _last_match(_NUMBER_RUN, text)
  return match[0].rstrip(".,/") if match else None


def find_answer(text: str, style: AnswerStyle = AnswerStyle.ANY) -> str | None:
  """The final answer of `text` by the convention `style`, or None."""
  styles = tuple(_EXTRACTORS) if style == AnswerStyle.ANY else (style,)
  for each in styles:
    answer = _EXTRACTORS[each](text)
    if answer is not None:
      return answer
  return None


def reference_answer(reference: object) -> str:
  r"""The final answer of a data row's reference: a number, a short answer, or a worked solution.

  Worked solutions are known by GSM8K's `#### 72` at their end or by MATH's `\boxed{72}`; anything else is the answer.

  Raises:
    ValueError: the reference is missing, empty, or neither text nor a number.
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
  r"""`\boxed{42}` inside an answer line or tag is 42; an empty answer is none."""
  return (boxed(answer) if "\\boxed{" in answer else answer) or None


_EXTRACTORS = {
  AnswerStyle.ANSWER_LINE: answer_line,
  AnswerStyle.BOXED: boxed,
  AnswerStyle.TAG: tag,
  AnswerStyle.LAST_NUMBER: last_number,
}
