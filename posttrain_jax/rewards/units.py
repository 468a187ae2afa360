r"""Splits a unit off a short answer and spells units alike.

Examples are "20 \text{ cm}" and "42 apples".

Words in \text{...} at the end are a unit. Plain words at the end are one if a number stands before them, and if they
are a known unit or one noun. Words that change the value ("3 million", "2 or more", "5 less") are never a unit: the
answer then keeps them, and equals no number. Units are compared, never converted.
"""

import re

_PERCENT = "%"
# One line a unit: the spelling that is kept, then others.
_SPELLINGS = {
  other: line.split()[0]
  for line in (
    "mm millimeter millimetre",
    "cm centimeter centimetre",
    "m meter metre",
    "km kilometer kilometre",
    "in inch inches",
    "ft foot feet",
    "yd yard",
    "mi mile",
    "mg milligram",
    "g gram gramme",
    "kg kilogram",
    "lb pound",
    "oz ounce",
    "ml milliliter millilitre mL",
    "l liter litre L",
    "s sec second",
    "min minute",
    "h hr hour",
    "mph",
    "day",
    "week",
    "month",
    "yr year",
    "unit",
    "° degree deg",
    "°C",
    "°F",
    "rad radian",
    "% percent pct percentage",
    "cent ¢",
    "dollar USD usd buck",
    "euro EUR €",
    "Hz hertz",
    "N newton",
    "J joule",
    "W watt",
    "V volt",
    "K kelvin",
    "Pa pascal",
  )
  for word in line.split()
  for other in (word, f"{word}s" if len(word) > 2 else word)
}
_OTHER_VALUES = frozenset(
  re.findall(
    "[a-z]+",
    """
  a about above after all almost an and approximately are around as at before below between but by cubed div divided
  dozen dozens each either equals even every except factorial few fewer fifth fifths for fourth fourths from greater
  half halves hundred hundreds if infinite is less many maximum million millions billion billions minimum minus mod
  modulo more most nd neither no none nor not nth of off only or other others out over pair pairs plus prime quarter
  quarters rd remainder score sixth sixths squared st than then third thirds thousand thousands th through times to
  tenth tenths trillion trillions twice under unless until up upto was sin cos tan log ln exp max were when where
  with wrong eighth eighths hundredth hundredths thousandth thousandths pi sqrt odd mixed maybe nope false true
  correct incorrect right
""",
  )
)
_SQUARE = {"square": "^2", "sq": "^2", "sq.": "^2", "cubic": "^3", "cu": "^3", "cu.": "^3"}
_PLAIN = re.compile(
  r"([-+]? ?[€£¥₹]? ?(?=[.0-9\\])(?:[0-9., /']|\\frac\{[^{}]*\}\{[^{}]*\})++)"
  r"([%°]? ?[A-Za-z¢%°€£][A-Za-z.\^0-9/{} ]*)"
)
_POWER = re.compile(r"\^\{?([0-9])\}?$")


def split(text: str, *, opening: str, closing: str) -> tuple[str, str]:
  r"""Splits an answer into (value, unit).

  The unit is "" if there is none, and has one spelling otherwise.

  Args:
    text: a short answer without other typesetting.
    opening: the character that stands for "\text{" and its like.
    closing: the character that stands for their closing brace.
  """
  marked = re.fullmatch(
    rf"(.*[^\s{opening}{closing}\\(\[=,])\s*"
    rf"((?:\s*[/·]?\s*[°%]?\s*{opening}[^{opening}{closing}]*{closing}(?:\s*\^\s*\{{?-?[0-9]\}}?)?)+)",
    text,
    re.DOTALL,
  )
  if marked:
    unit = spelling(re.sub(f"[{opening}{closing}]", " ", marked[2]))
    return (marked[1], unit) if unit is not None else (text, "")
  bare = re.sub(f"[{opening}{closing}]", "", text).strip()
  plain = _PLAIN.fullmatch(bare)
  if plain:
    unit = spelling(plain[2])
    if unit is not None and (_known(unit) or (plain[1].endswith(" ") and _is_noun(plain[2]))):
      return plain[1], unit
  if bare[-1:] in ("%", "°"):
    return bare[:-1], bare[-1]
  return text, ""


def spelling(text: str) -> str | None:
  """Returns a unit in one spelling.

  It is None if the words are no unit, because they change the value.
  """
  words = text.replace("°", " ° ").replace("/", " / ").replace("·", " ").split()
  found, pending = [], ""
  for word in words:
    if word in _SQUARE:
      pending = _SQUARE[word]
      continue
    power = _POWER.search(word)
    base = word[: power.start()] if power else word
    exponent = f"^{power[1]}" if power else pending
    pending = ""
    base = base.strip(".,")
    if base in ("per", "/"):
      found.append("/")
    elif not base and power and found:
      found[-1] += exponent
    elif not base or base.lower() in _OTHER_VALUES or not re.fullmatch(r"[A-Za-z%°¢€£-]+", base):
      return None
    else:
      known = _SPELLINGS.get(base) or _SPELLINGS.get(base.lower())
      found.append((known or base.lower().removesuffix("s")) + exponent)
  if not found or pending or len(found) > 5 or found[-1] == "/":
    return None
  return re.sub("°(C|F|c|f)$", lambda match: "°" + match[1].upper(), "".join(found).replace("//", "/"))


def agree(one: str, other: str) -> bool:
  """Says whether two units may be the same: equal, or one of them is missing."""
  return not one or not other or one == other


def _known(unit: str) -> bool:
  """Tells whether words are a known unit.

  One letter could be a variable, so it is known only with more beside it.
  """
  parts = [re.sub(r"\^[0-9]$", "", part) for part in unit.split("/")]
  return all(part in _SPELLINGS.values() for part in parts) and (unit in "%°¢" or len(unit) > 1)


def _is_noun(words: str) -> bool:
  return re.fullmatch(r"[A-Za-z]{3,}(?: per [A-Za-z]{3,})?", words.strip()) is not None
