"""A part of a synthetic gold reward: is the work shown once, neither skipped nor repeated.

Unlike correctness it has an optimum in the middle of what policies do. A reward model that has seen few comparisons
learns that more work is better, as it mostly is; who optimises against it goes past the optimum.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax.types import InputError


def shown_work(texts: Sequence[str], rows: Sequence[Mapping[str, Any]], *, column: str = "difficulty") -> list[float]:
  """max(−1, 1 − |r − 1|), r = results shown / steps of the problem: 1 for each step once, 0 for none or all twice.

  A result shown is an equals sign: "+8=5-2=3 Answer: 3" shows two.

  Args:
    texts: n answers.
    rows: their n data rows.
    column: the rows' column with the number of steps.

  Raises:
    InputError: a row has no number of steps.
  """
  rewards = []
  for text, row in zip(texts, rows, strict=True):
    steps = row.get(column)
    if not isinstance(steps, int) or steps < 1:
      raise InputError(f"shown_work: {column} is {steps!r}, expected the number of a problem's steps")
    rewards.append(max(-1.0, 1 - abs(text.count("=") / steps - 1)))
  return rewards
