"""Rewards work that is shown once: a part of a synthetic gold reward.

Unlike correctness, this reward is highest in the middle of what policies do. A reward model trained on few comparisons
learns that more work is better, which is mostly true. Optimising against that model then goes past the optimum.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from posttrain_jax.types import InputError


def shown_work(texts: Sequence[str], rows: Sequence[Mapping[str, Any]], *, column: str = "difficulty") -> list[float]:
  """Rewards each step of the problem shown once.

  reward = max(−1, 1 − |r − 1|), with r = results shown / steps of the problem. It is 1 if each step is shown once, and
  0 if no step is shown or all are shown twice. Each equals sign counts as a result: "+8=5-2=3 Answer: 3" shows two.

  Args:
    texts: n answers.
    rows: their n data rows.
    column: the rows' column with the number of steps.

  Returns:
    n rewards in [−1, 1].

  Raises:
    InputError: if a row has no number of steps.
  """
  rewards = []
  for text, row in zip(texts, rows, strict=True):
    steps = row.get(column)
    if not isinstance(steps, int) or steps < 1:
      raise InputError(f"shown_work: {column} is {steps!r}, expected the number of a problem's steps")
    rewards.append(max(-1.0, 1 - abs(text.count("=") / steps - 1)))
  return rewards
