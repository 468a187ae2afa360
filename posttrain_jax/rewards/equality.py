r"""Decides whether two short answers are the same.

They are the same if they are equal as exact numbers, or equal as text without typesetting. Numbers are compared as
fractions, never as floats. Nothing is evaluated except one division, so "10^10^10" is not a number. The comparison of
text is case-sensitive. Whether two formulas are equivalent is decided in `symbolic.py`. This module must not import
jax, because reward workers import it.
"""

import re
from fractions import Fraction

MAX_NUMBER_LENGTH = 1000  # characters; longer ones are compared as text, because reading digits takes quadratic time
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
  """Says whether both are the same number, or the same text if neither is a number."""
  value, other_value = number(answer), number(other)
  if value is not None or other_value is not None:
    return value == other_value
  plain = plain_text(answer)
  if not plain:  # nothing but typesetting, such as "$." and "."
    return answer == other
  return plain == plain_text(other)


def number(text: str) -> Fraction | None:
  r"""Returns the exact value of a written number; None if `text` is anything else.

  It reads signs, thousands commas, decimals, exponents of up to three digits, `a/b` and `\frac{a}{b}`. It ignores $ and
  \( \) around the number, % and degree signs ("50%" is 50), and dots at the end. Only the digits 0-9 count. Text of
  more than MAX_NUMBER_LENGTH characters is not a number.
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
  r"""Removes typesetting: spaces, $, \left and \right, \text{}, degree signs, a dot at the end."""
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
