"""Compares formulas without rounding: math-verify parses them, and sympy decides whether they are equal.

`math_verify.verify` rounds to a few digits and drops small numbers, so it takes 1/2006! for 1/2004!. Here decimals are
fractions, and two constants are equal only if they agree to 100 significant digits and sympy does not tell them apart.
It can take any time; `symbolic` says how that is bounded.
"""

import itertools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import math_verify
import sympy
from latex2sympy2_extended import NormalizationConfig
from sympy.core.relational import Relational

_DIGITS = 100  # significant digits that must agree
# Units are not removed here: `notation.read` has done so, where a word is a unit and does not change the value.
_CONFIG = math_verify.LatexExtractionConfig(
  normalization_config=NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="all", equations=False
  )
)


def parse(formula: str) -> Any:
  """Parses a formula, LaTeX or plain; None if it is not one. Decimals become fractions."""
  found = math_verify.parse(f"\\boxed{{{formula}}}", extraction_config=[_CONFIG], parsing_timeout=None)
  found = next((each for each in found if not isinstance(each, str)), None)
  return _without_floats(found) if isinstance(found, sympy.Basic) else found


def is_relation(formula: Any) -> bool:
  """Says whether a parsed formula is an equation or an inequality."""
  return isinstance(formula, Relational)


def equal(one: Any, two: Any, *, tolerance: float = 0.0) -> bool:
  """Says whether two parsed formulas are equal.

  Args:
    one: an expression, set, matrix or relation.
    two: another one.
    tolerance: largest difference of two constants that are still equal, as a share of the second.
  """
  same = lambda a, b: equal(a, b, tolerance=tolerance)  # noqa: E731
  if isinstance(one, sympy.MatrixBase) and isinstance(two, sympy.MatrixBase):
    return one.shape == two.shape and all(same(*pair) for pair in zip(one.flat(), two.flat()))
  if isinstance(one, sympy.FiniteSet) and isinstance(two, sympy.FiniteSet):
    return matches(one.args, two.args, same)
  if isinstance(one, sympy.Interval) and isinstance(two, sympy.Interval):
    open_alike = (one.left_open, one.right_open) == (two.left_open, two.right_open)
    return bool(open_alike) and same(one.start, two.start) and same(one.end, two.end)
  if isinstance(one, sympy.Tuple) and isinstance(two, sympy.Tuple):
    return len(one) == len(two) and all(same(*pair) for pair in zip(one, two))
  if isinstance(one, sympy.Expr) and isinstance(two, sympy.Expr):
    return _equal_expressions(one, two, tolerance)
  if isinstance(one, Relational) and isinstance(two, Relational):
    return _equal_relations(one, two)
  if isinstance(one, sympy.And | sympy.Or | sympy.Union) and one.func == two.func:
    return matches(_parts(one), _parts(two), same)
  return type(one) is type(two) and bool(one == two)


def matches(ones: Sequence[Any], others: Sequence[Any], same: Callable[[Any, Any], bool]) -> bool:
  """Says whether each element has a partner of its own among the others, in any order."""
  left = list(others)
  for one in ones:
    partner = next((index for index, other in enumerate(left) if same(one, other)), None)
    if partner is None:
      return False
    del left[partner]
  return not left


def differs_by_at_most(formula: Any, target: Fraction, allowed: Fraction) -> bool:
  """Says whether a constant differs from a number by at most `allowed`.

  It is False for what is not a real constant.
  """
  if not isinstance(formula, sympy.Expr) or formula.free_symbols:
    return False
  value = sympy.N(formula, _DIGITS)
  if not value.is_Float and not value.is_Rational:
    return False
  return bool(abs(sympy.Rational(value) - sympy.Rational(target)) <= sympy.Rational(allowed))


def _without_floats(formula: sympy.Basic) -> sympy.Basic:
  floats = formula.atoms(sympy.Float)
  return formula.xreplace({each: sympy.Rational(str(each)) for each in floats}) if floats else formula


def _equal_expressions(one: sympy.Expr, two: sympy.Expr, tolerance: float) -> bool:
  if one == two:
    return True
  constants = not one.free_symbols and not two.free_symbols
  if constants and not _close(one, two, max(sympy.Float(tolerance, 15), sympy.Float(10, 15) ** -_DIGITS)):
    return False  # before anything is worked out: 10^(10^10) has an exponent, but no room for its digits
  if one.free_symbols != two.free_symbols and _differ_at_a_point(one, two):
    return False
  if constants and tolerance:
    return True
  difference = sympy.simplify(one.doit() - two.doit())
  if difference.is_zero is not None:
    return bool(difference.is_zero)
  proof = difference.equals(0)
  return constants if proof is None else bool(proof)


def _close(one: sympy.Expr, two: sympy.Expr, share: sympy.Float) -> bool:
  one, two = sympy.N(one, _DIGITS + 10), sympy.N(two, _DIGITS + 10)
  if not (one.is_number and two.is_number and one.is_finite and two.is_finite):
    return False
  return bool(sympy.Abs(one - two) <= share * sympy.Abs(two)) if two != 0 else bool(one == 0)


def _differ_at_a_point(one: sympy.Expr, two: sympy.Expr) -> bool:
  """Tells formulas in different variables apart, without a proof.

  One of them does not change with a variable.
  """
  symbols = sorted(one.free_symbols | two.free_symbols, key=str)
  point = {symbol: sympy.Rational(prime, 7) for symbol, prime in zip(symbols, itertools.cycle((11, 13, 17, 19, 23)))}
  values = [sympy.N(each.subs(point), 30) for each in (one, two)]
  return all(value.is_number and value.is_finite for value in values) and not _close(*values, sympy.Float("1e-20"))


def _equal_relations(one: Relational, two: Relational) -> bool:
  """Says whether two relations are the same up to their sides and a constant factor."""
  one, two = (each.reversed if each.rel_op in (">", ">=") else each for each in (one, two))
  if one.rel_op != two.rel_op or one.rhs.is_number is None or not isinstance(one.lhs - one.rhs, sympy.Expr):
    return False
  left, right = sympy.expand(one.lhs - one.rhs), sympy.expand(two.lhs - two.rhs)
  if left == 0 or right == 0:
    return bool(left == right)
  factor = sympy.simplify(left / right)
  return bool(factor.is_number and factor != 0 and (one.rel_op in ("==", "!=") or factor.is_positive))


def _parts(formula: Any) -> Sequence[Any]:
  return getattr(formula, "_unsorted_args", None) or formula.args
