"""How often each training prompt was solved, over all epochs, and which prompts are retired because they always are."""

from collections.abc import Iterable

import numpy as np

from posttrain_jax.rollouts.admission import Judged
from posttrain_jax.rollouts.verdicts import Verdict


class PassRates:
  """Counts by prompt index; part of a checkpoint.

  A prompt retires when `retire_after` groups of it in a row were all right: it teaches nothing as long as that is so,
  and is not drawn again to see whether it still is. What was under way then does not call it back. A group without
  enough verdicts says nothing either way.
  """

  def __init__(self, retire_after: int):
    """Starts with no prompt seen; 0 retires none."""
    self._retire_after = retire_after
    self._counts: dict[int, list[int]] = {}  # right answers, answers with a verdict, groups all right in a row

  def add(self, judged: Iterable[Judged]) -> None:
    """Counts groups, in prompt order, with what their answers alone say of them."""
    for group, outcome in judged:
      counts = self._counts.setdefault(group.prompt.index, [0, 0, 0])
      counts[0] += int((group.accuracy > 0.5)[group.valid].sum())
      counts[1] += int(group.valid.sum())
      if outcome == Verdict.ALL_RIGHT:
        counts[2] += 1
      elif outcome != Verdict.INVALID and not self._retired(counts):
        counts[2] = 0

  def _retired(self, counts: list[int]) -> bool:
    return 0 < self._retire_after <= counts[2]

  @property
  def retired(self) -> frozenset[int]:
    """Indices of the prompts that are not to be drawn any more."""
    return frozenset(index for index, counts in self._counts.items() if self._retired(counts))

  def rate(self, index: int) -> float:
    """Share of right answers among those with a verdict; NaN for a prompt that has none."""
    right, answers, _ = self._counts.get(index, (0, 0, 0))
    return right / answers if answers else float("nan")

  def describe(self) -> dict[str, float]:
    """Prompts seen, their mean pass rate over all epochs, and how many are retired."""
    rates = [self.rate(index) for index in self._counts]
    rates = [rate for rate in rates if rate == rate]
    metrics: dict[str, float] = {
      "sampling/prompts_seen": len(self._counts),
      "sampling/prompts_retired": len(self.retired),
    }
    return metrics | ({"sampling/pass_rate": float(np.mean(rates))} if rates else {})

  def state(self) -> dict[str, list[int]]:
    """The counts as a JSON object."""
    return {str(index): counts for index, counts in self._counts.items()}

  def restore(self, state: dict[str, list[int]]) -> None:
    """Goes back to a state."""
    self._counts = {int(index): list(counts) for index, counts in state.items()}
