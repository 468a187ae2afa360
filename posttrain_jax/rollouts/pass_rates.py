"""Remembers how often each training prompt was solved, and retires those always solved."""

from collections.abc import Iterable

import numpy as np

from posttrain_jax.rollouts.dynamic_sampling import Judged, Verdict


class PassRates:
  """Counts right answers by prompt index, over all epochs; part of a checkpoint.

  A prompt retires when `retire_after` of its groups in a row were all right. Such a prompt teaches nothing, and it is
  never drawn again. A group of it that was under way at that time does not bring it back. A group with too few rewards
  for a verdict does not count in the row.
  """

  def __init__(self, retire_after: int, right_above: float = 0.5):
    """Starts with no prompt seen; `retire_after` 0 retires none, and an accuracy above `right_above` is right."""
    self._retire_after, self._right_above = retire_after, right_above
    self._counts: dict[int, list[int]] = {}  # right answers, answers with a reward, groups all right in a row

  def add(self, judged: Iterable[Judged]) -> None:
    """Counts groups with their verdicts, in prompt order."""
    for group, verdict in judged:
      counts = self._counts.setdefault(group.prompt.index, [0, 0, 0])
      valid = group.valid & np.isfinite(group.accuracy)
      counts[0] += int((group.accuracy > self._right_above)[valid].sum())
      counts[1] += int(valid.sum())
      if verdict == Verdict.ALL_RIGHT:
        counts[2] += 1
      elif verdict != Verdict.INVALID and not self._retired(counts):
        counts[2] = 0

  def _retired(self, counts: list[int]) -> bool:
    return 0 < self._retire_after <= counts[2]

  @property
  def retired(self) -> frozenset[int]:
    """Returns the indices of prompts that are not drawn any more."""
    return frozenset(index for index, counts in self._counts.items() if self._retired(counts))

  def rate(self, index: int) -> float:
    """Computes a prompt's share of right answers; NaN if no answer has a reward."""
    right, answers, _ = self._counts.get(index, (0, 0, 0))
    return right / answers if answers else float("nan")

  def describe(self) -> dict[str, float]:
    """Counts prompts seen and retired, and averages the pass rates over prompts."""
    rates = [self.rate(index) for index in self._counts]
    rates = [rate for rate in rates if rate == rate]
    metrics: dict[str, float] = {
      "sampling/prompts_seen": len(self._counts),
      "sampling/prompts_retired": len(self.retired),
    }
    return metrics | ({"sampling/pass_rate": float(np.mean(rates))} if rates else {})

  def state(self) -> dict[str, list[int]]:
    """Returns the counts as a JSON object."""
    return {str(index): counts for index, counts in self._counts.items()}

  def restore(self, state: dict[str, list[int]]) -> None:
    """Goes back to a state."""
    self._counts = {int(index): list(counts) for index, counts in state.items()}
