"""Rewards for answers that are formulas: equivalence by computer algebra, with the optional package math-verify.

Slower than `verifiers.exact_answer` by orders of magnitude and able to hang on hostile input: run it in reward workers,
whose time limit replaces the package's own (that one needs signals, which work on a main thread only).
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
  """1 where the final answer is mathematically equal to the reference, else 0. Needs `pip install math-verify`.

  Args:
    texts: n answers.
    rows: their n data rows.
    style: an `extract.AnswerStyle`: where the answer has to stand.
    column: the rows' column with the reference, LaTeX or plain.

  Raises:
    ImportError: math-verify is not installed.
    ValueError: unknown style, or a row's reference is missing or empty.
  """
  import math_verify

  logging.getLogger("math_verify").setLevel(logging.ERROR)  # warns each time that its own time limit is off
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
