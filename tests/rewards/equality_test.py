import time
from fractions import Fraction

import hypothesis
import pytest
from hypothesis import strategies as st

from posttrain_jax.rewards import equality


@pytest.mark.parametrize(
  ("text", "value"),
  [
    ("42", 42),
    ("+42", 42),
    ("-0", 0),
    ("007", 7),
    ("1,234.50", Fraction(2469, 2)),
    ("$1,234.50.", Fraction(2469, 2)),
    ("-$5", -5),
    ("\\$32,\\!348", 32348),
    ("11,\\! 111,\\! 100", 11111100),
    ("1{,}000", 1000),
    ("50%", 50),
    ("50\\%", 50),
    ("$\\frac{1}{2}$", Fraction(1, 2)),
    ("-\\dfrac{35}{9}", Fraction(-35, 9)),
    ("\\frac43", Fraction(4, 3)),
    ("\\frac 59", Fraction(5, 9)),
    ("3/4", Fraction(3, 4)),
    ("-3/-4", Fraction(3, 4)),
    ("5.", 5),
    (".0000672", Fraction(672, 10**7)),
    ("2.5e3", 2500),
    ("1e-2", Fraction(1, 100)),
    ("−7", -7),
    ("\\(7\\).", 7),
    ("9" * 1000, 10**1000 - 1),
  ],
)
def test_number(text, value):
  assert equality.number(text) == value


@pytest.mark.parametrize(
  "text",
  [
    "",
    "-",
    ".",
    "$",
    "x",
    "1,2,3",
    "12,34",
    "1,2345",
    "1/0",
    "1/2/3",
    "--5",
    "+-5",
    "1 2",
    "0x10",
    "1_000",
    "nan",
    "inf",
  ]
  + [
    "Infinity",
    "٣",
    "²",
    "10²",
    "５",
    "10^10^10",
    "10**10",
    "1e1000",
    "1e999999999",
    "2*3",
    "x=5",
    "9" * 1001,
    "\\frac{}{}",
  ]
  + ["\\frac{1}{0}", "1\\frac{4}{5}"],
)
def test_not_a_number(text):
  assert equality.number(text) is None


@pytest.mark.parametrize(
  ("answer", "other"),
  [
    ("0.1", "1/10"),
    ("1,234.50", "1234.5"),
    ("\\text{Evelyn}", "Evelyn."),
    ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3,\\dfrac{\\pi}{2})"),
    ("90^\\circ", "90"),
    ("90^{\\circ}", "$90^\\circ$"),
    ("p-q", "p - q"),
    ("(1 \\\\ 2)", "(1 \\\\2)"),
    ("9" * 2000, "9" * 2000),
  ],
)
def test_same(answer, other):
  assert equality.same_answer(answer, other)
  assert equality.same_answer(other, answer)


@pytest.mark.parametrize(
  ("answer", "other"),
  [
    ("0.1", "0.10000000000000000001"),  # equal as floats
    ("9007199254740993", "9007199254740992"),
    ("10^10^10", "10"),
    ("٣", "3"),
    ("5", "x"),
    ("a", "A"),
    ("\\leftarrow", "arrow"),
    ("", "0"),
    ("$", "."),
  ],
)
def test_not_same(answer, other):
  assert not equality.same_answer(answer, other)


@hypothesis.given(st.fractions(max_denominator=10**6))
def test_reads_back_every_fraction(value):
  assert equality.number(str(value)) == value
  assert equality.number(f"\\frac{{{value.numerator}}}{{{value.denominator}}}") == value


@hypothesis.given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=3))
def test_reads_back_every_decimal(value):
  assert equality.number(f"{value:,}") == Fraction(value) == equality.number(f"${value:f}.")


@hypothesis.given(st.text(), st.text())
def test_takes_any_text_and_is_reflexive_and_symmetric(one, two):
  assert equality.same_answer(one, one)
  assert equality.same_answer(one, two) == equality.same_answer(two, one)


@pytest.mark.parametrize(
  "unit", ["{", "\\text{", "\\frac{", "1,", "9", " ", "$", "\\!", "{,}", "^", "\\left", "-", "/", "."]
)
def test_a_megabyte_of_anything_takes_under_a_second(unit):
  text = unit * (1_000_000 // len(unit))
  start = time.process_time()
  equality.same_answer(text, "5")
  equality.plain_text(text)
  assert time.process_time() - start < 1.0
