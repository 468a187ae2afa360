"""Rewards formulas that are equivalent to the reference, by the optional package math-verify.

Computer algebra is slower than `verifiers.exact_answer` by orders of magnitude and can hang on hostile input. Run it in
reward workers: their time limit replaces the package's own, which needs signals and so works on a main thread only.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax.rewards import extract


def math_equal(
  texts: Sequence[str],
  rows: Sequence[Mapping[str, Any]],
  *,
  style: str = extract.AnswerStyle.BOXED,
  column: str = "answer",
) -> list[float]:
  """Gives 1 if the final answer is mathematically equal to the reference, else 0.

  Needs `pip install math-verify`.

  Args:
    texts: n answers.
    rows: their n data rows.
    style: an `extract.AnswerStyle`, the convention by which the answer is found.
    column: the rows' column with the reference, LaTeX or plain.

  Returns:
    n rewards.

  Raises:
    ImportError: if math-verify is not installed.
    ValueError: if the style is unknown, or a row's reference is missing or empty.
  """
  import math_verify

  logging.getLogger("math_verify").setLevel(logging.ERROR)  # else it warns each time that its own time limit is off
  style = extract.AnswerStyle(style)

  def parse(answer: str) -> list:
    return math_verify.parse(f"\\boxed{{{answer}}}", parsing_timeout=None)

  rewards = []
  for text, row in zip(texts, rows, strict=True):
    reference = parse(extract.reference_answer(row.get(column)))
    answer = extract.find_answer(text, style)
    equal = answer is not None and math_verify.verify(reference, parse(answer), timeout_seconds=None)
    rewards.append(float(equal))
  return rewards
