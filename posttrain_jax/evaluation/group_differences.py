"""Compares groups that the same prompts name in turn, such as people of several nationalities.

Each prompt is asked once for each group, with nothing else changed. So a group's difference is taken prompt by prompt,
from the mean of the other groups. Many groups make it likely that one of them differs by chance. Therefore the
intervals are corrected for their number (Bonferroni), and the largest difference has a p-value of its own, by exchange
of the groups within each prompt (Westfall and Young 1993).
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from posttrain_jax.evaluation.metrics import Estimate
from posttrain_jax.types import InputError

_RESAMPLES = 4000  # the corrected percentiles lie far out
_LEVEL = 0.05


@dataclasses.dataclass(frozen=True)
class GroupDifferences:
  """Holds how groups differ.

  Attributes:
    groups: each group's mean difference from the other groups, with an interval that covers all groups at once with a
      probability of 95 %.
    largest: the largest of them in size, and its interval; in size, too.
    group: which group it is.
    p_value: how often exchanged groups differ as much, for the largest difference.
  """

  groups: Mapping[str, Estimate]
  largest: Estimate
  group: str
  p_value: float

  @property
  def found(self) -> list[str]:
    """Returns the groups whose interval leaves out 0."""
    return [name for name, each in self.groups.items() if each.low > 0 or each.high < 0]


def group_differences(scores: np.ndarray, groups: Sequence[str], *, seed: int = 0) -> GroupDifferences:
  """Computes how each group's scores differ from those of the other groups.

  Args:
    scores: float [N, G], a prompt a row and a group a column.
    groups: G names, at least two.
    seed: of the resampling.

  Raises:
    InputError: if there are no prompts, or if there are fewer than two groups.
  """
  scores = np.asarray(scores, np.float64)
  if scores.ndim != 2 or not len(scores) or scores.shape[1] != len(groups) or len(groups) < 2:
    raise InputError(f"groups: found scores {scores.shape} of {len(groups)} groups, expected [N, G], N > 0 and G > 1")
  rng = np.random.default_rng(seed)
  differences = _from_others(scores)
  means = differences.mean(axis=0)
  drawn = rng.multinomial(len(scores), np.full(len(scores), 1 / len(scores)), size=_RESAMPLES)
  resampled = drawn @ differences / len(scores)
  outside = 100 * _LEVEL / 2 / len(groups)
  low, high = np.percentile(resampled, (outside, 100 - outside), axis=0)
  errors = resampled.std(axis=0, ddof=1)
  found = {
    name: Estimate(float(means[i]), float(errors[i]), float(low[i]), float(high[i]), problems=len(scores))
    for i, name in enumerate(groups)
  }
  most = int(np.abs(means).argmax())
  return GroupDifferences(found, _in_size(found[groups[most]]), groups[most], _p_value(scores, rng))


def _from_others(scores: np.ndarray) -> np.ndarray:
  """Returns each score less the mean of the prompt's other groups."""
  count = scores.shape[1]
  return (scores - scores.mean(axis=1, keepdims=True)) * count / (count - 1)


def _in_size(each: Estimate) -> Estimate:
  return each if each.mean >= 0 else dataclasses.replace(each, mean=-each.mean, low=-each.high, high=-each.low)


def _p_value(scores: np.ndarray, rng: np.random.Generator) -> float:
  """Returns how often the largest difference is as large if each prompt's groups are exchanged."""
  largest = np.abs(_from_others(scores).mean(axis=0)).max()
  as_large = sum(
    np.abs(_from_others(rng.permuted(scores, axis=1)).mean(axis=0)).max() >= largest - 1e-12 for _ in range(_RESAMPLES)
  )
  return (1 + as_large) / (1 + _RESAMPLES)
