import threading

import pytest

from posttrain_jax.rewards import symbolic
from tests.rewards import graded_answers

pytest.importorskip("math_verify", reason="math-verify, an optional extra, is not installed")


def test_equivalent_formulas():
  texts = ["\\boxed{\\frac{1+x}{2}}", "\\boxed{0.5}", "\\boxed{x}", "nothing"]
  rows = [{"answer": "\\frac{x}{2} + \\frac{1}{2}"}, {"answer": "$\\frac12$"}, {"answer": "y"}, {"answer": "y"}]
  assert symbolic.math_equal(texts, rows) == [1, 1, 0, 0]
  assert symbolic.math_equal(texts, rows, incorrect=-1.0) == [1, 1, -1, -1]


def test_right():
  wrong = [
    pair for pair in graded_answers.RIGHT + graded_answers.RIGHT_BY_ALGEBRA if not symbolic.equal_formulas(*pair)
  ]
  assert wrong == []


def test_wrong():
  assert [pair for pair in graded_answers.WRONG if symbolic.equal_formulas(*pair)] == []


def test_a_decimal_reference_counts_to_its_digits_and_a_decimal_answer_exactly():
  assert symbolic.equal_formulas("1/3", "0.33")
  assert symbolic.equal_formulas("0.3349", "0.33") and not symbolic.equal_formulas("0.3351", "0.33")
  assert not symbolic.equal_formulas("0.33", "1/3")
  assert not symbolic.equal_formulas("\\pi", "3.15")


def test_tolerance_is_a_share_of_the_reference():
  assert symbolic.equal_formulas("3.1416", "\\pi", tolerance=1e-5)
  assert not symbolic.equal_formulas("3.1416", "\\pi", tolerance=1e-6)
  assert symbolic.equal_formulas("99", "100", tolerance=0.01) and not symbolic.equal_formulas(
    "98", "100", tolerance=0.01
  )


@pytest.mark.parametrize(
  ("text", "brackets", "elements"),
  [
    ("(1, \\frac{2}{3})", "()", ("1", "\\frac{2}{3}")),
    ("[0, f(1,2))", "[)", ("0", "f(1,2)")),
    ("\\{1, 2\\}", "", ("1", "2")),
    ("1, 2 and 3", "", ("1", "2", "3")),
    ("(0,1) \\cup [2,3]", "∪", ("(0,1)", "[2,3]")),
  ],
)
def test_collection(text, brackets, elements):
  assert symbolic.collection(text) == symbolic.Collection(brackets, elements)


@pytest.mark.parametrize("text", ["5", "f(1,2)", "(x+1)(x+2)", "", "(", "1,", "\\sqrt{1,2}"])
def test_no_collection(text):
  assert symbolic.collection(text) is None


def test_works_off_the_main_thread():
  rewards = []
  call = lambda: rewards.extend(symbolic.math_equal(["\\boxed{2x}"], [{"answer": "x + x"}]))  # noqa: E731
  thread = threading.Thread(target=call)
  thread.start()
  thread.join()
  assert rewards == [1]
