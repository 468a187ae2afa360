r"""Removes what does not change the meaning of a short answer.

That is typesetting, and the answer's name, unit or label.

`plain` is the one normal form that all verifiers compare by. `read` also takes an answer apart: "x = 20 \text{ cm}" has
the name x, the value 20 and the unit cm; "(B) 12" has the label B and the value 12. Nothing is evaluated. Text of more
than MAX_LENGTH characters is left as it is, except for white space, so that hostile text costs linear time. This module
must not import jax, because reward workers import it.
"""

import re
import unicodedata
from typing import NamedTuple

from posttrain_jax.rewards import units

MAX_LENGTH = 1000  # characters

# In the working form the content of \text{...} and its like stands between these two characters.
_OPEN, _CLOSE = "\x01", "\x02"
_CHARACTERS = str.maketrans(
  {
    _OPEN: None,
    _CLOSE: None,
    "−": "-",  # minus sign
    "–": "-",  # en dash
    "\u00a0": " ",  # no-break space
    "\u2009": " ",  # thin space
    "\u202f": " ",  # narrow no-break space
    "’": "'",
    "º": "°",
    "˚": "°",  # ring above
    "∘": "\\circ ",  # ring operator
  }
  | {character: " " + unicodedata.normalize("NFKC", character).replace("⁄", "/") for character in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"}
)
_WORDS_IN = (
  r"\\(?:text(?:bf|it|rm|tt|sf|sc|md|up|normal)?|math(?:rm|bf|it|sf|tt|normal)|mbox|hbox|boldsymbol|bm|emph|underline"
  r"|operatorname\*?|ensuremath|boxed|fbox)(?![A-Za-z])"
)
_COLOR = r"\\(?:text)?color ?\{[^{}]*+\}"
_SPACE = r"(?<!\\)\\[,;:> ]|~|\\(?:quad|qquad|enspace|thinspace|medspace|thickspace)(?![A-Za-z])|\\hspace\*?\{[^{}]*+\}"
_NOTHING = (
  r"(?<!\\)\\[!/] *+|\\(?:displaystyle|textstyle|scriptstyle|left|right|bf|rm|it|sf|tt|bfseries|itshape|tiny|small"
  r"|normalsize|large|Large|LARGE|huge|Huge|limits|nolimits|[bB]igg?[lrm]?)(?![A-Za-z])"
  r"|\\[hv]?phantom ?\{[^{}]*+\}|\{\}"
)
_DEGREE = (
  r"\^ ?\{ ?\\(?:circ|degree) ?\}|\^ ?\\(?:circ|degree)(?![A-Za-z])|\\(?:text)?degrees?(?![A-Za-z])|\^ ?\{? ?° ?\}?"
)
_REWRITES = tuple(
  (re.compile(pattern), replacement)
  for pattern, replacement in (
    (r"\s++", " "),
    (_COLOR, ""),
    (r"\{ ?\\(?:rm|bf|it|sf|tt)(?![A-Za-z])([^{}]*+)\}", r"\\text{\1}"),
    (_SPACE, " "),
    (_NOTHING, ""),
    (r"(?<!\\)\\[()\[\]]|\\?\$", ""),  # mathematics begins or ends, or dollars
    (r"\\%", "%"),
    (r"\{ ?, ?\}", ","),
    (_DEGREE, "°"),
    (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
    (r"\\frac ?([0-9]) ?([0-9])", r"\\frac{\1}{\2}"),
    (r"\\frac ?([0-9]) ?\{", r"\\frac{\1}{"),
    (r"\\frac ?(\{[^{}]*+\}) ?([0-9])", r"\\frac\1{\2}"),
    (r"\\sqrt ?([0-9A-Za-z])", r"\\sqrt{\1}"),
    (r"([\^_]) ?\{ ?([0-9A-Za-z]) ?\}", r"\1\2"),
    (r" ++", " "),
    (r"\\(le|ge|ne)q(?![A-Za-z])", r"\\\1"),
    (r"(?<!\w)(?:\*\*(?=\S)([^*]++)(?<=\S)\*\*|__(?=\S)([^_]++)(?<=\S)__)(?!\w)", r"\1\2"),  # Markdown's bold
    (r"(?<=\w)\*\*(?= |$)", ""),  # ... that began before the answer
  )
)
_WORDS = re.compile(_WORDS_IN + r" ?\{([^{}]*+)\}")
_MARKS = re.compile(f"[{_OPEN}{_CLOSE}]")
_QUOTED = re.compile(r"([\"“`'])(.*)[\"”`']", re.DOTALL)

_GREEK = (
  r"\\(?:alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|pi|rho|sigma|tau|phi"
  r"|varphi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Sigma|Phi|Psi|Omega|ell)(?![A-Za-z])"
)
_INDEX = r"(?:_(?:[0-9A-Za-z]|\{[^{}=]*+\}))?'{0,3}"
_ARGUMENT = r"(?:\([^()=<>]*+\))?"
_NAME = re.compile(
  r"(?:(?:m ?)?\\(?:angle|triangle|overline) ?\{?)?"
  rf"(?:[A-Za-z]+(?: [A-Za-z]+){{0,5}}|{_GREEK}) ?{_INDEX} ?{_ARGUMENT}\}}?"
  r"|\|[A-Za-z]+\|"
)
_NOT_IN_NAMES = re.compile(r"(?i)\b(?:and|or|not|if|when|neither|either|no|than)\b")
_LABEL = re.compile(
  r"(?:(?:[Oo]ption|[Cc]hoice|[Aa]nswer) )?(?:\(([A-Ja-j])\)|\[([A-J])\]|([A-J])(?:[.):]|$))[.:]? *(.*)", re.DOTALL
)
_LONE_LETTER = re.compile(r"(?<![A-Za-z\\])[A-J](?![A-Za-z])|\([a-j]\)")


class Stated(NamedTuple):
  r"""Holds the parts of a short answer, each in plain form.

  A part that is missing is "".

  Attributes:
    value: what is stated.
    latex: the value as a formula that can be parsed: with its white space and \text{...}.
    name: what the value is said to be the value of, such as "x" or "f(2)".
    unit: its unit, in one spelling (`units.spelling`).
    label: the letter of a multiple choice. If there is nothing beside it, it is the value, too.
  """

  value: str
  latex: str = ""
  name: str = ""
  unit: str = ""
  label: str = ""


def plain(text: str) -> str:
  r"""Returns `text` without typesetting: delimiters, fonts, spaces, emphasis, degree signs, a dot at the end."""
  if len(text) > MAX_LENGTH:
    return "".join(text.split())
  return _finish(_working(text))


def read(text: str) -> Stated:
  """Takes a short answer apart. A part that is not clearly marked stays in the value."""
  if len(text) > MAX_LENGTH:
    return Stated(plain(text), text)
  rest, name, label = _working(text), "", ""
  found = _LABEL.fullmatch(_MARKS.sub("", rest).strip())
  if found and not _LONE_LETTER.search(found[4]):
    label = found[1] or found[2] or found[3]
    rest = found[4] or label
  left, relation, right = _equation(rest)
  if relation and _is_name(left):
    name, rest = _finish(left), right
  elif relation == "=" and _is_name(right):  # 5 = x
    name, rest = _finish(right), left
  value, unit = units.split(rest, opening=_OPEN, closing=_CLOSE)
  if not _finish(value):
    value, unit = rest, ""
  latex = _trim(value).replace(_OPEN, "\\text{").replace(_CLOSE, "}").replace("°", "")
  return Stated(_finish(value), latex, name, unit, label)


def _working(text: str) -> str:
  r"""Returns `text` with most typesetting removed; \text{...} still has marks around its content."""
  text = text.translate(_CHARACTERS)
  for pattern, replacement in _REWRITES:
    text = pattern.sub(replacement, text)
  for _ in range(4):  # fonts within fonts
    changed = _WORDS.sub(lambda match: f"{_OPEN}{match[1].translate(_CHARACTERS)}{_CLOSE}", text)
    if changed == text:
      break
    text = changed
  return _trim(text)


def _trim(text: str) -> str:
  """Removes white space, emphasis, punctuation at the end, and quotes or braces around the whole."""
  before = None
  while before != text:
    before = text
    text = text.strip().lstrip("*_`").rstrip(".,;:*_`").strip()
    quoted = _QUOTED.fullmatch(text)
    text = quoted[2] if quoted and len(text) > 2 else text
    if text[:1] == "{" and _closes_at_end(text):
      text = text[1:-1]
  return text


def _closes_at_end(text: str) -> bool:
  depth = 0
  for position, character in enumerate(text):
    if text[position - 1 : position] != "\\":
      depth += (character == "{") - (character == "}")
    if depth == 0:
      return position == len(text) - 1
  return False


def _is_name(text: str) -> bool:
  return bool(_NAME.fullmatch(text)) and not _NOT_IN_NAMES.search(text)


def _equation(text: str) -> tuple[str, str, str]:
  r"""Splits "x = 5" or "x \in [0, 1]" at its only relation; else finds none."""
  parts = re.split(r"(:?=|\\in(?![A-Za-z])|∈)", text)
  if len(parts) != 3 or not parts[2].strip():
    return text, "", ""
  return " ".join(_MARKS.sub("", parts[0]).split()), parts[1], parts[2].strip()


def _finish(text: str) -> str:
  """Returns the working form without marks, degree signs and white space; two numbers stay apart."""
  text = _trim(_MARKS.sub("", text).replace("°", "")).strip()
  return re.sub(r"(?<![0-9])\s+|\s+(?![0-9])", "", text) if " " in text or "\n" in text or "\t" in text else text
