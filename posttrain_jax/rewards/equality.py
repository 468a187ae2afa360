r"""Decides whether two short answers are the same.

They are the same if they are equal as exact numbers, or equal as text without typesetting (`notation.plain`). A name
("x = 5"), a unit ("5 cm") or a letter of a multiple choice ("(B) 5") may be missing on one side, and must agree if both
sides have it. Numbers are compared as fractions, never as floats. Nothing is evaluated except one division and a power
of ten, so "10^10^10" is not a number. The comparison of text is case-sensitive. Whether two formulas are equivalent is
decided in `symbolic.py`. This module must not import jax, because reward workers import it.
"""

import re
from fractions import Fraction

from posttrain_jax.rewards import notation, units
from posttrain_jax.rewards.notation import Stated

MAX_NUMBER_LENGTH = notation.MAX_LENGTH  # characters; longer ones are text, because reading digits takes quadratic time
_DECIMAL = re.compile(
  r"(?:[0-9]{1,3}(?:,[0-9]{3})++|[0-9]{1,3}(?:[ '][0-9]{3})++|[0-9]++)"
  r"(?:\.[0-9]*+)?+(?:[eE][-+]?+[0-9]{1,3})?+|\.[0-9]++"
)
_FRAC = re.compile(r"\\frac ?\{([^{}]*)\} ?\{([^{}]*)\}")
_MIXED = re.compile(r"([0-9]++) ?(?:\\frac ?\{([0-9]++)\} ?\{([0-9]++)\}|(?<= )([0-9]++) ?/ ?([0-9]++))")
_POWER_OF_TEN = re.compile(r"(.*?) ?(?:\\times|\\cdot|×|\*|·) ?10 ?\^ ?\{?([-+]?[0-9]{1,3})\}?")
_CURRENCY = "$€£¥₹"


def same_answer(answer: str, other: str, *, tolerance: float = 0.0) -> bool:
  """Says whether both are the same number, or the same text if neither is a number.

  Args:
    answer: a short answer.
    other: another one; their order does not matter.
    tolerance: largest difference of two numbers, as a share of the larger one; 0: they must be equal.
  """
  plain, other_plain = notation.plain(answer), notation.plain(other)
  if not plain or not other_plain:  # nothing but typesetting, such as "$." and "."
    return answer == other
  if plain == other_plain:
    return True
  return same_stated(notation.read(answer), notation.read(other), tolerance=tolerance)


def same_stated(one: Stated, two: Stated, *, tolerance: float = 0.0) -> bool:
  """Says whether two answers that `notation.read` took apart are the same."""
  if not parts_agree(one, two):
    return False
  if one.label and two.label and (one.value == one.label or two.value == two.label):
    return True  # one of them is the letter only
  value, other_value = number(one.value), number(two.value)
  if value is None or other_value is None:
    return value is other_value is None and one.value == two.value
  pairs = readings(one, value, two, other_value)
  return any(abs(left - right) <= Fraction(tolerance) * max(abs(left), abs(right)) for left, right in pairs)


def parts_agree(one: Stated, two: Stated) -> bool:
  """Says whether no name, unit or label of one answer contradicts the other's."""
  if one.label and two.label:
    return one.label.upper() == two.label.upper()
  names_agree = not one.name or not two.name or one.name == two.name
  return names_agree and units.agree(one.unit, two.unit)


def readings(one: Stated, value: Fraction, two: Stated, other_value: Fraction) -> list[tuple[Fraction, Fraction]]:
  """Returns the pairs of values that may be compared.

  That is one pair, unless only one side is in percent. Then 50 % may be 1/2. It may also be 50, as where a problem asks
  for percent; but values below 1 % may not, since there the two readings are easily confused.
  """
  if (one.unit == "%") == (two.unit == "%"):
    return [(value, other_value)]
  share = (value / 100, other_value) if one.unit == "%" else (value, other_value / 100)
  percent = value if one.unit == "%" else other_value
  return [share] + [(value, other_value)] * (abs(percent) >= 1)


def number(text: str) -> Fraction | None:
  r"""Returns the exact value of a written number; None if `text` is anything else.

  It reads signs, thousands (with commas, spaces or apostrophes), decimals, exponents of up to three digits, powers of
  ten as in `2 \times 10^3`, `a/b`, `\frac{a}{b}` and mixed numbers such as `2\frac{1}{3}` and `2 1/3`. It ignores
  typesetting, currency, % and degree signs ("50%" is 50), parentheses around the number, and dots at the end. Only the
  digits 0-9 count. Text of more than MAX_NUMBER_LENGTH characters is not a number.
  """
  if len(text) > MAX_NUMBER_LENGTH:
    return None
  text = notation.plain(text).removesuffix("%")
  if text[:1] == "(" and text[-1:] == ")" and "," not in text:
    text = text[1:-1].strip()
  text = text.lstrip(_CURRENCY + " ")
  sign = -1 if text[:1] == "-" else 1
  text = text[1:].lstrip(_CURRENCY + " ") if text[:1] in ("-", "+") else text
  power = _POWER_OF_TEN.fullmatch(text)
  factor = Fraction(10) ** int(power[2]) if power else Fraction(1)
  value = _magnitude(power[1] if power else text)
  return None if value is None else sign * value * factor


def decimal_step(text: str) -> Fraction | None:
  """Returns the value of a decimal's last digit; None for other text.

  It is 1/100 for "3.14".
  """
  text = notation.plain(text).lstrip("+-" + _CURRENCY + " ").removesuffix("%")
  found = _DECIMAL.fullmatch(text)
  mantissa, _, exponent = text.lower().partition("e")
  if not found or "." not in mantissa:
    return None
  return Fraction(10) ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def canonical(answer: str) -> Fraction | str:
  """Returns what equal answers have in common.

  That is the exact number, else the plain text, without name, unit and label.
  """
  value = notation.read(answer).value
  found = number(value)
  return value if found is None else found


def _magnitude(text: str) -> Fraction | None:
  """Reads a number without sign and power of ten."""
  mixed = _MIXED.fullmatch(text)
  if mixed:
    numerator, denominator = int(mixed[2] or mixed[4]), int(mixed[3] or mixed[5])
    return int(mixed[1]) + Fraction(numerator, denominator) if numerator < denominator else None
  frac = _FRAC.fullmatch(text)
  if frac:
    numerator, denominator = _signed(frac[1]), _signed(frac[2])
  elif "/" in text:
    numerator, denominator = map(_signed, text.split("/", 1))
  else:
    numerator, denominator = _unsigned(text), Fraction(1)
  return None if numerator is None or not denominator else numerator / denominator


def _signed(text: str) -> Fraction | None:
  text = text.strip()
  value = _unsigned(text[text[:1] in ("+", "-") :])
  return -value if value is not None and text[:1] == "-" else value


def _unsigned(text: str) -> Fraction | None:
  text = text.strip()
  return Fraction(re.sub("[, ']", "", text)) if _DECIMAL.fullmatch(text) else None
