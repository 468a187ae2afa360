"""Ends a run whose reward functions fail on too many answers.

A database that is down or a column that is missing would otherwise cost step after step that trains nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posttrain_jax.types import RunFailed

_SHOWN = 300  # characters of a data row in the message


class RewardsFailed(RunFailed):
  """Reports that a reward function failed on too many answers.

  The message has the function's own error and a data row.
  """


class FailureLimit:
  """Counts each function's failures over as many answers as a step has, again and again."""

  def __init__(self, share: float, answers: int = 1):
    """Starts to count.

    Args:
      share: the run ends if at least this share of the answers fails, and at least one; above 1: never.
      answers: least number of answers by which a function is judged: those of a step. 1: of each call by itself.
    """
    self._share, self._answers = share, answers
    self._counts: dict[str, tuple[int, int]] = {}  # by function: answers, failures

  def add(
    self, name: str, failed: np.ndarray, rows: Sequence[Mapping[str, Any]], reasons: Mapping[int, str], asked: int
  ) -> None:
    """Counts a call of a function.

    Args:
      name: of the function.
      failed: bool [n], True where it failed.
      rows: n data rows.
      reasons: why it failed, by position.
      asked: how many of the n answers it did not abstain from.

    Raises:
      RewardsFailed: if too many of the answers failed since it was last judged.
    """
    before = self._counts.get(name, (0, 0))
    answers, failures = before[0] + asked, before[1] + int(failed.sum())
    self._counts[name] = (answers, failures)
    if answers < self._answers:
      return
    self._counts[name] = (0, 0)
    if failed.any() and failures >= self._share * answers:
      position = int(np.flatnonzero(failed)[0])
      row = " ".join(str(dict(rows[position])).split())
      shown = row if len(row) <= _SHOWN else row[:_SHOWN] + "…"
      raise RewardsFailed(
        f"reward function {name}: {failures} of {answers} answers failed (rewards.max_failures={self._share:g} ends "
        f"the run there): {reasons.get(position, 'no reason')}; data row: {shown}"
      )
