import time
from fractions import Fraction

import hypothesis
import pytest
from hypothesis import strategies as st

from posttrain_jax.rewards import equality
from tests.rewards import graded_answers


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
    ("1\\frac{4}{5}", Fraction(9, 5)),
    ("-11 5/6", Fraction(-71, 6)),
    ("2½", Fraction(5, 2)),
    ("1 234 567", 1234567),
    ("1\\,234", 1234),
    ("1'234", 1234),
    ("(-7)", -7),
    ("1.5 \\times 10^{-3}", Fraction(15, 10**4)),
    ("\\mathbf{\\text{13}}", 13),
    ("€5", 5),
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
  + ["\\frac{1}{0}", "1\\frac{5}{4}", "2 5/4", "1 23", "12 3456", "(1,234)", "3 \\times 10^1000"],
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
    ("(b)", "B"),
    ("(b) 12", "(B)"),
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
    ("(c)", "B"),
    ("\\leftarrow", "arrow"),
    ("", "0"),
    ("$", "."),
  ],
)
def test_not_same(answer, other):
  assert not equality.same_answer(answer, other)


@pytest.mark.parametrize(("answer", "reference"), graded_answers.RIGHT)
def test_right(answer, reference):
  assert equality.same_answer(answer, reference)
  assert equality.same_answer(reference, answer)


@pytest.mark.parametrize(("answer", "reference"), graded_answers.WRONG)
def test_wrong(answer, reference):
  assert not equality.same_answer(answer, reference)
  assert not equality.same_answer(reference, answer)


def test_canonical_form_joins_the_votes_for_one_answer():
  assert {equality.canonical(text) for text in ("1/2", "x = 0.5", "\\frac12 \\text{ cm}", "0.50")} == {Fraction(1, 2)}
  assert equality.canonical("\\text{Evelyn}.") == equality.canonical("Evelyn") == "Evelyn"
  assert equality.canonical("x = y") == "y"


def test_tolerance_is_a_share_of_the_larger_number():
  assert equality.same_answer("99", "100", tolerance=0.01)
  assert not equality.same_answer("98.9", "100", tolerance=0.01)
  assert not equality.same_answer("100", "100.0001")
  assert not equality.same_answer("99 cm", "100 m", tolerance=0.01)


@pytest.mark.parametrize(
  ("text", "step"),
  [("3.14", Fraction(1, 100)), ("-.5", Fraction(1, 10)), ("2.50e3", 10), ("1.0\\%", Fraction(1, 10))]
  + [("3", None), ("3.", None), ("1e-3", None), ("1/2", None), ("1.2.3", None), ("x", None)],
)
def test_decimal_step(text, step):
  assert equality.decimal_step(text) == step


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
  equality.canonical(text)
  assert time.process_time() - start < 1.0
