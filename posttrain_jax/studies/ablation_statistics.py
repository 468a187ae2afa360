"""Statistics of an ablation: intervals over seeds and problems, an exact paired test, and Holm's correction.

A run gives one score a problem; S seeds on the same N problems give a matrix [S, N]. Both seeds and problems are drawn
from larger populations, and scores of one seed, as those of one problem, are alike: the interval resamples rows and
columns, each as a whole. The test looks at seeds alone, which is what a claim about a training method is about.

Deviation from the two-way bootstrap of a model with random effects: the "pigeonhole" bootstrap resamples both ways at
once and leaves the residual in three times, so that its intervals are somewhat wide (Owen 2007, 0712.1111, section 3).
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from posttrain_jax.types import InputError

ALPHA = 0.05
_MOST_SEEDS = 20  # 2^20 sign patterns


@dataclasses.dataclass(frozen=True)
class Interval:
  """A mean and its 95 % interval.

  Attributes:
    mean: over all seeds and problems.
    low: lower end.
    high: upper end.
  """

  mean: float
  low: float
  high: float


@dataclasses.dataclass(frozen=True)
class SignFlip:
  """What an exact paired test says.

  Attributes:
    p: two-sided p-value.
    smallest: the smallest p-value that so many seeds can give: 2 / 2^S.
  """

  p: float
  smallest: float

  @property
  def can_reject(self) -> bool:
    """Whether so many seeds can reach .05 at all."""
    return self.smallest <= ALPHA


def interval(scores: np.ndarray, *, resamples: int = 2000, seed: int = 0) -> Interval:
  """Mean and 95 % percentile interval, clustered over seeds and problems (pigeonhole bootstrap, Owen 2007, 0712.1111).

  mean* = Σ_s Σ_n u_s v_n x_sn / Σ_s Σ_n u_s v_n over the scores that are there, u and v multinomial counts of S seeds
  and of N problems drawn with replacement. With one seed only problems are resampled.

  Args:
    scores: float [S, N], or differences of paired scores; NaN where a problem has none.
    resamples: number of draws.
    seed: of the draws; equal scores and seeds give equal intervals.

  Raises:
    InputError: not a matrix, or no score in it.
  """
  scores = np.asarray(scores, np.float64)
  present = ~np.isnan(scores)
  if scores.ndim != 2 or not present.any():
    raise InputError(f"scores of shape {scores.shape} with {int(present.sum())} numbers, expected some of [S, N]")
  rng = np.random.default_rng(seed)
  filled = np.where(present, scores, 0.0)
  seeds, problems = ((rng.multinomial(n, np.full(n, 1 / n), size=resamples)).astype(np.float64) for n in scores.shape)
  if len(scores) == 1:
    seeds = np.ones((resamples, 1))
  total = ((seeds @ filled) * problems).sum(axis=1)
  weight = ((seeds @ present.astype(np.float64)) * problems).sum(axis=1)
  means = total[weight > 0] / weight[weight > 0]
  low, high = np.percentile(means, (2.5, 97.5))
  return Interval(float(filled.sum() / present.sum()), float(low), float(high))


def sign_flip(differences: Sequence[float]) -> SignFlip:
  """Exact paired sign-flip test of mean 0 (Fisher's randomisation test), two-sided.

  p = share of the 2^S sign patterns whose |mean| is at least the observed one. Under the null hypothesis a pair's
  difference is as likely to have either sign.

  Args:
    differences: [S], one a seed.

  Raises:
    InputError: no difference, one that is no number, or more than 20.
  """
  differences = np.asarray(differences, np.float64)
  if differences.ndim != 1 or not 1 <= len(differences) <= _MOST_SEEDS or not np.isfinite(differences).all():
    raise InputError(f"sign-flip test: found {differences}, expected 1 to {_MOST_SEEDS} finite differences")
  # The first sign is fixed: a pattern and its opposite have the same |mean|.
  others = len(differences) - 1
  signs = np.array(list(itertools.product((1.0, -1.0), repeat=others))).reshape(2**others, others)
  sums = np.abs(differences[0] + signs @ differences[1:])
  tolerance = 1e-12 * np.abs(differences).sum()  # equal but for the order of summation
  return SignFlip(float(np.mean(sums >= abs(differences.sum()) - tolerance)), 2.0 / 2 ** len(differences))


def holm(p_values: Sequence[float]) -> np.ndarray:
  """Holm's step-down adjustment (Holm 1979): family-wise error under .05 where the adjusted value is.

  With p sorted ascending, adjusted_i = max_{j ≤ i} min(1, (m − j + 1) p_j).

  Args:
    p_values: [m], in any order.

  Returns:
    float64 [m], adjusted, in the same order.
  """
  p_values = np.asarray(p_values, np.float64)
  order = np.argsort(p_values, kind="stable")
  scaled = p_values[order] * np.arange(len(p_values), 0, -1)
  adjusted = np.empty_like(p_values)
  adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
  return adjusted


def at_costs(costs: np.ndarray, scores: np.ndarray, wanted: np.ndarray) -> np.ndarray:
  """Scores at given costs, linearly between the evaluations of a run.

  Args:
    costs: float [E], what had been spent at each evaluation (tokens, updates, seconds), going up.
    scores: float [E] or [E, N].
    wanted: float [K], costs asked for.

  Returns:
    float64 [K] or [K, N]; NaN beyond the first and the last evaluation: nothing is extrapolated.
  """
  costs, scores, wanted = (np.asarray(x, np.float64) for x in (costs, scores, wanted))
  if costs.ndim != 1 or len(costs) != len(scores) or len(costs) == 0 or (np.diff(costs) < 0).any():
    raise InputError(f"costs {costs} of {len(scores)} evaluations, expected as many, going up")
  right = np.clip(np.searchsorted(costs, wanted), min(1, len(costs) - 1), len(costs) - 1)
  left = np.maximum(right - 1, 0)
  span = costs[right] - costs[left]
  share = np.where(span > 0, (wanted - costs[left]) / np.where(span > 0, span, 1.0), (wanted >= costs[right]) * 1.0)
  share = np.where((wanted < costs[0]) | (wanted > costs[-1]), np.nan, share)
  share = share.reshape(-1, *[1] * (scores.ndim - 1))
  # Where a share is 0 or 1 the other end may be NaN without a say in the matter.
  parts = [np.where(weight == 0, 0.0, weight * scores[i]) for weight, i in ((1 - share, left), (share, right))]
  return sum(parts)
