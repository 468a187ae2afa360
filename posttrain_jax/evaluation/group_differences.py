"""Compares groups that the same prompts name in turn, such as people of several nationalities.

Each prompt is asked once for each group, with nothing else changed. So prompts are resampled with all their groups. A
group is compared with the median of the other groups, which one group that is treated otherwise does not move.

Many groups make it likely that one of them differs by chance. Therefore bootstrap intervals are corrected for the
number of groups (Bonferroni), and for few prompts (expanded percentiles, Hesterberg 2015). With ten prompts they are
still somewhat narrow. Whether a group counts as found is decided by a test that is exact for any number of prompts:
groups are exchanged within each prompt, and the largest difference of all is compared (Westfall and Young 1993).
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from posttrain_jax.evaluation.metrics import Estimate
from posttrain_jax.types import InputError

_RESAMPLES = 8000  # the corrected percentiles lie far out
_EXCHANGES = 2000
_LEVEL = 0.05
_ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True)
class GroupDifferences:
  """Holds how groups differ.

  Attributes:
    groups: each group's mean less the median of the other groups' means, with an interval that covers all groups at
      once with a probability of 95 %.
    largest: the largest of them in size, and its interval; in size, too.
    group: which group it is.
    p_value: how often exchanged groups differ as much, for the largest difference.
    found: groups that differ by more than the largest difference of 95 % of the exchanges.
  """

  groups: Mapping[str, Estimate]
  largest: Estimate
  group: str
  p_value: float
  found: tuple[str, ...]


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
  means = _from_others(scores.mean(axis=0))
  drawn = rng.multinomial(len(scores), np.full(len(scores), 1 / len(scores)), size=_RESAMPLES)
  resampled = _from_others(drawn @ scores / len(scores))
  outside = 100 * _expanded(_LEVEL / 2 / len(groups), len(scores))
  low, high = np.percentile(resampled, (outside, 100 - outside), axis=0)
  errors = resampled.std(axis=0, ddof=1)
  found = {
    name: Estimate(float(means[i]), float(errors[i]), float(low[i]), float(high[i]), problems=len(scores))
    for i, name in enumerate(groups)
  }
  most = int(np.abs(means).argmax())
  exchanged = _exchanged(scores, rng)
  beyond = np.quantile(exchanged, 1 - _LEVEL, method="higher") + _ROUNDING
  return GroupDifferences(
    found,
    _in_size(found[groups[most]]),
    groups[most],
    p_value=float((1 + (exchanged >= abs(means[most]) - _ROUNDING).sum()) / (1 + len(exchanged))),
    found=tuple(name for name, mean in zip(groups, means) if abs(mean) > beyond),
  )


def _from_others(means: np.ndarray) -> np.ndarray:
  """Returns each group's mean less the median of the other groups' means, [..., G] both."""
  count = means.shape[-1]
  others = [np.median(np.delete(means, i, axis=-1), axis=-1) for i in range(count)]
  return means - np.stack(others, axis=-1)


def _in_size(each: Estimate) -> Estimate:
  return each if each.mean >= 0 else dataclasses.replace(each, mean=-each.mean, low=-each.high, high=-each.low)


def _expanded(outside: float, prompts: int) -> float:
  """Returns the share beyond an interval's end that makes up for few prompts."""
  if prompts < 2:
    return 0.0
  return float(stats.norm.cdf(np.sqrt(prompts / (prompts - 1)) * stats.t.ppf(outside, prompts - 1)))


def _exchanged(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Returns the largest difference after each exchange of the groups within each prompt."""
  every = np.array([rng.permuted(scores, axis=1).mean(axis=0) for _ in range(_EXCHANGES)])
  return np.abs(_from_others(every)).max(axis=1)
