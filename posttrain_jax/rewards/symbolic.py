"""Rewards formulas that are equivalent to the reference, by the optional package math-verify.

Answers are read and compared as in `verifiers.exact_answer` first. Only where that does not settle it, math-verify
parses both formulas, and `exact_algebra` compares them without rounding.

Computer algebra is slower than `verifiers.exact_answer` by orders of magnitude and can hang on hostile input. Run it in
reward workers: their time limit replaces the package's own, which needs signals and so works on a main thread only.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from posttrain_jax.rewards import equality, extract, notation
from posttrain_jax.rewards.notation import Stated


def math_equal(
  texts: Sequence[str],
  rows: Sequence[Mapping[str, Any]],
  *,
  style: str = extract.AnswerStyle.BOXED,
  column: str = "answer",
  incorrect: float = 0.0,
  tolerance: float = 0.0,
  window: int = extract.WINDOW,
) -> list[float]:
  """Gives 1 if the final answer is mathematically equal to the reference, else `incorrect`.

  Equality is exact. The exception is a reference that is a decimal itself, such as 3.14: an answer is then right if it
  differs by at most half of the reference's last digit, so that π is right, too. Needs `pip install math-verify`.

  Args:
    texts: n answers.
    rows: their n data rows.
    style: an `extract.AnswerStyle`, the convention by which the answer is found.
    column: the rows' column with the reference, LaTeX or plain.
    incorrect: reward of a wrong answer, and of a text without an answer.
    tolerance: largest difference of two numbers that are still the same, as a share of the reference.
    window: characters at the end of the text in which `Answer:` must stand; 0: anywhere.

  Returns:
    n rewards.

  Raises:
    ImportError: if math-verify is not installed.
    ValueError: if the style is unknown, or a row's reference is missing or empty.
  """
  from posttrain_jax.rewards import exact_algebra  # noqa: F401 -- slow, and needs math-verify: so with the empty batch

  logging.getLogger("math_verify").setLevel(logging.ERROR)  # else it warns each time that its own time limit is off
  style = extract.AnswerStyle(style)
  rewards = []
  for text, row in zip(texts, rows, strict=True):
    reference = extract.reference_answer(row.get(column))
    answer = extract.find_answer(text, style, window=window)
    right = answer is not None and equal_formulas(answer, reference, tolerance=tolerance)
    rewards.append(1.0 if right else incorrect)
  return rewards


def equal_formulas(answer: str, reference: str, *, tolerance: float = 0.0) -> bool:
  """Says whether an answer is mathematically equal to a reference; see `math_equal`.

  Raises:
    ImportError: if math-verify is not installed.
  """
  if equality.same_answer(answer, reference):
    return True
  if max(len(answer), len(reference)) > notation.MAX_LENGTH:
    return False
  found, wanted = notation.read(answer), notation.read(reference)
  if not found.value or not equality.parts_agree(found, wanted) or (found.label and wanted.label):
    return False
  value, target = equality.number(found.value), equality.number(wanted.value)
  allowed = max((equality.decimal_step(wanted.value) or 0) / 2, Fraction(tolerance) * abs(target or 0))
  if value is not None and target is not None:
    pairs = equality.readings(found, value, wanted, target)
    return any(abs(left - right) <= allowed for left, right in pairs)
  several, wanted_several = collection(found.latex), collection(wanted.latex)
  if several and wanted_several:
    return _equal_collections(several, wanted_several, tolerance)
  return _equal_parsed(found, wanted, target, allowed, tolerance)


def _equal_parsed(found: Stated, wanted: Stated, target: Fraction | None, allowed: Fraction, tolerance: float) -> bool:
  """Compares single formulas."""
  from posttrain_jax.rewards import exact_algebra

  answer, reference = exact_algebra.parse(found.latex), exact_algebra.parse(wanted.latex)
  if answer is None or reference is None:
    return False
  if target is not None and allowed:
    return exact_algebra.differs_by_at_most(answer, target, allowed)
  if found.name and exact_algebra.is_relation(reference):  # y = 2x + 1 may be asked for as 2x - y + 1 = 0
    answer = exact_algebra.parse(f"{found.name}={found.latex}")
  if wanted.name and exact_algebra.is_relation(answer):
    reference = exact_algebra.parse(f"{wanted.name}={wanted.latex}")
  return exact_algebra.equal(answer, reference, tolerance=tolerance)


class Collection(NamedTuple):
  """Holds the elements of a list, set, tuple or interval, or the intervals of a union.

  Attributes:
    brackets: opening and closing bracket; "" for a list without brackets, and for a set, whose order does not matter.
    elements: at least two short answers.
  """

  brackets: str
  elements: tuple[str, ...]


def collection(text: str) -> Collection | None:
  """Takes an answer with several elements apart; None for a single formula."""
  union = _split(text, r"\\cup(?![A-Za-z])|∪")
  if len(union) > 1:
    return Collection("∪", union)
  brackets, inner = "", text.strip()
  if inner.startswith("\\{") and inner.endswith("\\}") and len(_split(inner[2:-2], ",")) > 1:
    inner = inner[2:-2]
  elif inner[:1] in ("(", "[") and inner[-1:] in (")", "]") and len(_split(inner[1:-1], ",")) > 1:
    brackets, inner = inner[0] + inner[-1], inner[1:-1]
  separators = "," if brackets else r",|;|(?<![A-Za-z])(?:and|or)(?![A-Za-z])|\\text ?\{ ?(?:and|or) ?\}"
  elements = tuple(each for each in _split(inner, separators) if each or brackets)
  return Collection(brackets, elements) if len(elements) > 1 and all(elements) else None


def _split(text: str, separator: str) -> tuple[str, ...]:
  """Splits at separators outside of all brackets.

  If a bracket closes that was not opened, nothing is split.
  """
  parts, start, depth = [], 0, 0
  for match in re.finditer(rf"({separator})|\\left|\\[{{}}]|[(\[{{]|[)\]}}]", text):
    if match[1] is not None and depth == 0:
      parts.append(text[start : match.start()].strip())
      start = match.end()
    elif match[1] is None:
      depth += match[0] in ("(", "[", "{", "\\{")
      depth -= match[0] in (")", "]", "}", "\\}")
      if depth < 0:
        return (text.strip(),)
  return (*parts, text[start:].strip())


def _equal_collections(one: Collection, two: Collection, tolerance: float) -> bool:
  same = lambda a, b: equal_formulas(a, b, tolerance=tolerance)  # noqa: E731
  if one.brackets != two.brackets or len(one.elements) != len(two.elements):
    return False
  if one.brackets in ("", "∪"):
    from posttrain_jax.rewards.exact_algebra import matches

    return matches(one.elements, two.elements, same)
  return all(same(*pair) for pair in zip(one.elements, two.elements))
