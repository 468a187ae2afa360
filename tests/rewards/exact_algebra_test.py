from fractions import Fraction

import pytest

pytest.importorskip("math_verify", reason="math-verify, an optional extra, is not installed")

from posttrain_jax.rewards import exact_algebra
from posttrain_jax.rewards.exact_algebra import parse


@pytest.mark.parametrize(
  ("one", "two", "expected"),
  [
    ("0.5x", "\\frac{x}{2}", True),  # as floats, too
    ("0.1+0.2", "0.3", True),  # not as floats
    ("\\frac{1}{2006!}", "\\frac{1}{2004!}", False),
    ("\\sqrt{2}\\sqrt{3}", "\\sqrt{6}", True),
    ("x^2-1", "(x-1)(x+1)", True),
    ("x^2-1", "(x-1)(x-1)", False),
    ("x", "y", False),
    ("10^{10^{10}}", "10^{10^{11}}", False),  # nothing that large is worked out
    ("2x=4", "x=2", True),
    ("2x<4", "x<2", True),
    ("-2x<4", "x<2", False),
    ("-x<2", "x>-2", True),
    ("1<x<2", "1<x<3", False),
    ("\\begin{pmatrix}1&2\\end{pmatrix}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}", False),
    ("3\\pm\\sqrt{2}", "3\\mp\\sqrt{2}", True),
    ("\\emptyset", "0", False),
  ],
)
def test_equal(one, two, expected):
  assert exact_algebra.equal(parse(one), parse(two)) == expected
  assert exact_algebra.equal(parse(two), parse(one)) == expected


def test_words_are_no_number():
  assert not exact_algebra.equal(parse("maybe 5"), parse("5"))
  assert not exact_algebra.equal(parse("5 million"), parse("5"))


def test_differs_by_at_most():
  pi = parse("\\pi")
  assert exact_algebra.differs_by_at_most(pi, Fraction(314, 100), Fraction(1, 200))
  assert not exact_algebra.differs_by_at_most(pi, Fraction(315, 100), Fraction(1, 200))
  assert not exact_algebra.differs_by_at_most(parse("x"), Fraction(1), Fraction(10**9))
  assert not exact_algebra.differs_by_at_most(parse("i"), Fraction(1), Fraction(1, 2))


def test_each_element_needs_a_partner_of_its_own():
  same = lambda one, other: abs(one - other) <= 1  # noqa: E731
  assert exact_algebra.matches([1, 5], [5, 2], same)
  assert not exact_algebra.matches([1, 1], [1, 5], same)
  assert not exact_algebra.matches([1], [1, 1], same)
