import time

import hypothesis
import pytest
from hypothesis import strategies as st

from posttrain_jax.rewards import notation


@pytest.mark.parametrize(
  ("text", "value", "name", "unit", "label"),
  [
    ("42", "42", "", "", ""),
    ("x = 20\\text{ cm}", "20", "x", "cm", ""),
    ("f(2) = -1", "-1", "f(2)", "", ""),
    ("x \\in [0, 1]", "[0,1]", "x", "", ""),
    ("\\angle ABC = 60^\\circ", "60", "\\angleABC", "°", ""),
    ("(B)", "B", "", "", "B"),
    ("\\textbf{(B) } 12", "12", "", "", "B"),
    ("x = 1, y = 2", "x=1,y=2", "", "", ""),  # two relations: not one value with a name
    ("2x = 5", "2x=5", "", "", ""),
    ("x or y = 5", "xory=5", "", "", ""),
    ("(A) or (B)", "(A)or(B)", "", "", ""),
    ("5 = x", "5", "x", "", ""),  # the name may stand on either side
    ("|AB| = 5", "5", "|AB|", "", ""),
    ("5 = 2x", "5=2x", "", "", ""),
    ("(b)", "b", "", "", "b"),
    ("[B] 12", "12", "", "", "B"),
    ("[0, 1]", "[0,1]", "", "", ""),
    ("36\\pi\\text{ cm}^3", "36\\pi", "", "cm^3", ""),
  ],
)
def test_read(text, value, name, unit, label):
  found = notation.read(text)
  assert (found.value, found.name, found.unit, found.label) == (value, name, unit, label)


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("\\left( 3,\\, \\dfrac12 \\right)", "(3,\\frac{1}{2})"),
    ("{\\bf 7}", "7"),
    ("\\textcolor{red}{\\mathbf{7}}", "7"),
    ("\\phantom{-}7", "7"),
    ("45˚", "45"),
    ("45^{∘}", "45"),
    ("**7**.", "7"),
    ("7** apples", "7apples"),
    ("\\{\\}", "\\{\\}"),  # the empty set is not typesetting
    ("2**3**4", "2**3**4"),
    ("1 2", "1 2"),  # two numbers are not one
    ("5!", "5!"),
    ("$.", ""),
  ],
)
def test_plain(text, expected):
  assert notation.plain(text) == expected


def test_the_formula_keeps_what_a_parser_needs():
  assert notation.read("y = 2 \\cdot x \\text{ cm}").latex == "2 \\cdot x"
  assert notation.read("\\text{no } x").latex == "\\text{no } x"


@hypothesis.given(st.text())
def test_plain_form_is_its_own_plain_form(text):
  assert notation.plain(notation.plain(text)) == notation.plain(text)


@pytest.mark.parametrize(
  "unit", ["{", "\\text{", " ", "x ", "1 ", "\\frac{", "**", "'", "(A", "=", "\\", "$", "a=", "°"]
)
def test_hostile_text_takes_little_time(unit):
  start = time.process_time()
  for length in (notation.MAX_LENGTH, 1_000_000):
    notation.read(unit * (length // len(unit)))
    notation.plain(unit * (length // len(unit)))
  assert time.process_time() - start < 1.0
