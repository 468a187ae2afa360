r"""When two short answers are the same: equal as exact numbers, or equal as text once their typesetting is removed.

Numbers are compared as fractions, never as floats, and nothing is evaluated beyond one division: "10^10^10" is no
number. Not decided here: whether two formulas are equivalent (see `symbolic.py`). Text is compared with its case. No
jax: reward workers import this module.
"""

import re
from fractions import Fraction

MAX_NUMBER_LENGTH = 1000  # characters; longer ones are compared as text, since reading digits takes quadratic time
_DECIMAL = re.compile(r"(?:[0-9]{1,3}(?:,[0-9]{3})++|[0-9]++)(?:\.[0-9]*+)?+(?:[eE][-+]?+[0-9]{1,3})?+|\.[0-9]++")
_FRAC = re.compile(r"\\[dt]?frac ?(?:\{([^{}]*)\}|([0-9])) ?(?:\{([^{}]*)\}|([0-9]))")
_DECORATION = re.compile(r"(?<!\\)\\[!,;: ]\s*+|\^\\circ|\^\{\\circ\}")  # thin spaces and degree signs
_TYPESETTING = (
  (re.compile(r"\\(?:left|right)(?![A-Za-z])"), ""),
  (re.compile(r"\\[dt]frac(?![A-Za-z])"), r"\\frac"),
  (re.compile(r"\\(?:text|mbox|textbf|mathrm) ?\{([^{}]*+)\}"), r"\1"),
  (re.compile(r"\s++"), ""),
)


def same_answer(answer: str, other: str) -> bool:
  """True when both are the same number, or neither is a number and they are the same text."""
  value, other_value = number(answer), number(other)
  if value is not None or other_value is not None:
    return value == other_value
  plain = plain_text(answer)
  if not plain:  # nothing but typesetting, such as "$." and "."
    return answer == other
  return plain == plain_text(other)


def number(text: str) -> Fraction | None:
  r"""The exact value of a written number, or None when `text` is anything else.

  Read: signs, thousands commas, decimals, exponents of up to three digits, `a/b`, `\frac{a}{b}`. Ignored: $ and \( \)
  around it, % and degree signs ("50%" is 50), dots at the end. Only the digits 0-9 count, and at most
  MAX_NUMBER_LENGTH characters.
  """
  if len(text) > MAX_NUMBER_LENGTH:
    return None
  text = _undecorated(text)
  sign = -1 if text[:1] in ("-", "−") else 1
  text = text[1:].lstrip(" $") if text[:1] in ("-", "−", "+") else text
  frac = _FRAC.fullmatch(text)
  if frac:
    numerator, denominator = _signed(frac[1] or frac[2] or ""), _signed(frac[3] or frac[4] or "")
  elif "/" in text:
    numerator, denominator = map(_signed, text.split("/", 1))
  else:
    numerator, denominator = _unsigned(text), Fraction(1)
  if numerator is None or not denominator:
    return None
  return sign * numerator / denominator


def plain_text(text: str) -> str:
  r"""`text` without what only typesets it: spaces, $, \left and \right, \text{}, degree signs, a dot at the end."""
  text = _undecorated(text)
  for pattern, replacement in _TYPESETTING:
    text = pattern.sub(replacement, text)
  return text


def _undecorated(text: str) -> str:
  text = text.strip().rstrip(".").removeprefix("\\(").removesuffix("\\)")
  text = text.strip(" \t\r\n$").rstrip(".").replace("\\$", "").replace("\\%", "%")
  return _DECORATION.sub("", text.replace("{,}", ",")).strip(" $%")


def _signed(text: str) -> Fraction | None:
  text = text.strip()
  value = _unsigned(text.lstrip("+-−")) if len(text) - len(text.lstrip("+-−")) <= 1 else None
  return -value if value is not None and text[:1] in ("-", "−") else value


def _unsigned(text: str) -> Fraction | None:
  text = text.strip()
  return Fraction(text.replace(",", "")) if _DECIMAL.fullmatch(text) else None
