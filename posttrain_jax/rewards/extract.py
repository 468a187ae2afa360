r"""Finds the final answer in a text, with one function for each convention.

Each function returns None if the text does not follow its convention. All run in time linear in the text, whatever it
contains, and never evaluate what they find. Which answers are equal is decided in `equality.py`. This module must not
import jax, because reward workers import it.

`answer_line` follows the convention of DAPO's script with two differences: the last `Answer:` counts even if two stand
on one line, and Markdown emphasis around the marker and the answer is removed.
"""

import collections
import enum
import re

WINDOW = 300  # characters at the end of a text in which `Answer:` must stand, as in DAPO's script

# Emphasis may end before the colon, in Markdown, HTML or LaTeX: **Answer**: or \textbf{Answer}:
_ANSWER_MARKER = re.compile(
  r"(?i)(?<![^\W_])(?<![^\W_]_)answer(?:[\s*_`~}]|</?(?:b|i|em|strong|u)>)*+[:：](?:[*_`~}]|</(?:b|i|em|strong|u)>)*+"
)
_CLOSING_TAG = re.compile(r"(?:</(?:b|i|em|strong|u)>|[”\s])+$")
_EMPHASIS = " \t*_`"
_NO_CONTENT = " \t*_`$\\[]()"  # a line of these only opens a formula
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![A-Za-z])")
_SPACE = re.compile(r"\s*+")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # the first branch skips escaped characters: \{ and \} do not count
_UNBRACED_FRAC = re.compile(r"[-+−]?+\\[dtc]?frac\s*+(?:[0-9]|\{[^{}]*+\})\s*+(?:[0-9]|\{[^{}]*+\})")
# A sign belongs to the number unless it is a minus between two terms. A digit right after a letter (x2) starts no
# number. Powers, digits of other scripts and digits grouped in threes belong to the match, so that 10^10 is not read as
# 10 and 1 234 not as 234. After the first digit the pattern cannot fail, and its quantifiers are possessive, so it
# takes linear time.
_GROUP = r"(?<![0-9]{4})(?:[ '’\u00a0\u2009\u202f]|\\[,;: ]|\{,\}|,\\!)[0-9]{3}(?![0-9])"
_FRACTION = r"\\[dtc]?frac(?: ?\{[^{}\n]{0,40}\}| ?[0-9]){2}"
_NUMBER_RUN = re.compile(
  r"(?:(?<![\w)\]}^/.,])[-+−]\$?)?+(?<![\w^/])(?:(?:\.?+[0-9]|[¼-¾⅐-⅞])"
  rf"(?:{_GROUP}|[\d.,/²³¹⁰-₉¼-¾⅐-⅞]|[eE][-+]?+[0-9]|\^\{{?+[-+−]?+|\*\*(?=[0-9])|(?<=[0-9]) ?{_FRACTION})*+"
  rf"|{_FRACTION})"
)
# What stands before the fraction of a mixed number, such as 2 2/3, 2-2/3 or 2 and 2/3.
_INTEGER_BEFORE = re.compile(r"(?<![0-9.,/^])[0-9]+(?:\s|\\[,;: ]|~|-|−|and|&nbsp;|&)+$")


class AnswerStyle(enum.StrEnum):
  """Lists the conventions for stating a final answer."""

  ANSWER_LINE = "answer_line"  # Answer: 42
  BOXED = "boxed"  # \boxed{42}
  TAG = "tag"  # <answer>42</answer>
  LAST_NUMBER = "last_number"
  ANY = "any"  # tries the four in this order and takes the first that is found


def answer_line(text: str, *, window: int = WINDOW) -> str | None:
  """Returns what follows the last `Answer:`, up to the end of that line (DAPO, 2503.14476).

  The marker may be in upper or lower case. The answer may start on the next line.

  Args:
    text: an answer.
    window: all of the marker must lie within the last so many characters; 0: anywhere.
  """
  tail = text[-window:] if window else text
  marker = _last_match(_ANSWER_MARKER, tail)
  if marker is None:
    return None
  lines = (_without_emphasis(line) for line in tail[marker.end() :].splitlines())
  return next((_unboxed(line) for line in lines if line.strip(_NO_CONTENT)), None)


def _without_emphasis(line: str) -> str:
  """Removes emphasis at the ends, also what closes there but opens before the marker."""
  closing = _CLOSING_TAG.search(line, max(0, len(line) - 40))
  line = (line[: closing.start()] if closing else line).strip(_EMPHASIS)
  return line[:-1].strip(_EMPHASIS) if line.endswith("}") and line.count("{") < line.count("}") else line


def boxed(text: str) -> str | None:
  r"""Returns the content of the last `\boxed{...}` or `\fbox{...}`.

  None if that one is never closed, even if an earlier one is. In nested boxes the last opening one counts. Without
  braces, as in `\boxed 5.`, it is what follows up to white space or $, without punctuation at its end.
  """
  found = _last_match(_BOX, text)
  if found is None:
    return None
  start = _SPACE.match(text, found.end()).end()
  if text[start : start + 1] != "{":
    return _unbraced(text, start)
  end = _closing_brace(text, start + 1)
  return text[start + 1 : end].strip() or None if end is not None else None


def _closing_brace(text: str, start: int) -> int | None:
  """Returns the position of the brace that closes one opened before `start`."""
  depth = 1
  for match in _BRACE.finditer(text, start):
    depth += {"{": 1, "}": -1}.get(match[0], 0)
    if depth == 0:
      return match.start()
  return None


def _unbraced(text: str, start: int) -> str | None:
  """Returns what a box without braces has.

  That is a fraction, or the text up to white space outside of braces.
  """
  frac = _UNBRACED_FRAC.match(text, start)
  if frac:
    return frac[0]
  position, end = start, len(text)
  while position < end and text[position] != "$" and not text[position].isspace():
    if text[position] == "{":
      closing = _closing_brace(text, position + 1)
      if closing is None:
        return None
      position = closing
    elif text[position] == "}" or text.startswith(("\\]", "\\)"), position):
      break
    position += 1
  content = text[start:position].rstrip(".,;:!?*_`\\")
  unopened = content.endswith(")") and content.count(")") > content.count("(")
  return (content[:-1].rstrip(".,;:") if unopened else content) or None


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
  instead of being read as its last part. A fraction right after a whole number and a space ("2 2/3") is not clear in
  running text: it gives None.
  """
  match = _last_match(_NUMBER_RUN, text)
  if match is None or ("/" in match[0] and _INTEGER_BEFORE.search(text, max(0, match.start() - 40), match.start())):
    return None
  return match[0].rstrip(".,/")


def find_answer(text: str, style: AnswerStyle = AnswerStyle.ANY, *, window: int = WINDOW) -> str | None:
  """Returns the final answer of `text` by the convention `style`, or None; for `window` see `answer_line`."""
  match style:
    case AnswerStyle.ANSWER_LINE:
      return answer_line(text, window=window)
    case AnswerStyle.BOXED:
      return boxed(text)
    case AnswerStyle.TAG:
      return tag(text)
    case AnswerStyle.LAST_NUMBER:
      return last_number(text)
    case AnswerStyle.ANY:
      found = (find_answer(text, each, window=window) for each in AnswerStyle if each != AnswerStyle.ANY)
      return next((answer for answer in found if answer is not None), None)


def stated(answer: str, style: AnswerStyle) -> str:
  """Returns a text that states an answer by a convention, as a model should."""
  match style:
    case AnswerStyle.BOXED:
      return f"\\boxed{{{answer}}}"
    case AnswerStyle.TAG:
      return f"<answer>{answer}</answer>"
    case AnswerStyle.LAST_NUMBER:
      return answer
    case _:
      return f"Answer: {answer}"


def reference_answer(reference: object) -> str:
  r"""Returns the final answer of a data row's reference.

  The reference is a number, a short answer, or a worked solution. A worked solution has GSM8K's `#### 72` as its last
  line, MATH's `\boxed{72}`, `<answer>72</answer>` or `Answer: 72`. Any other reference is the answer itself. A `####`
  on any other line is a heading.

  Raises:
    ValueError: if the reference is missing, empty, or neither text nor a number; or if it is a text of several lines or
      with a box from which no answer can be read.
  """
  if isinstance(reference, bool) or not isinstance(reference, str | int | float):
    raise ValueError(f"reference answer is {reference!r}; expected text or a number")
  text = str(reference).strip()
  last_line = text.rsplit("\n", 1)[-1]
  marked = "####" in last_line
  if marked and (not _BOX.search(text) or any(character.isdigit() for character in last_line)):
    answer = last_line.rsplit("####", 1)[1].strip()
    answer = answer_line(answer) or answer
  elif _BOX.search(text):
    answer = boxed(text) or ""
  elif tag(text) is not None or _ANSWER_MARKER.search(text):
    answer = tag(text) or answer_line(text, window=0) or ""
  elif "####" in text:
    raise ValueError(
      f"reference answer {text[-60:]!r} has '####' as a heading; expected '#### ANSWER' as the last line"
    )
  elif "\n" in text and "\\begin{" not in text:
    raise ValueError(
      f"reference answer {text[-60:]!r} has several lines; expected a short answer, '#### ANSWER' or \\boxed{{ANSWER}}"
    )
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
  return (boxed(answer) if _BOX.search(answer) else answer) or None
