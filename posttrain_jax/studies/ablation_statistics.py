"""Computes an ablation's statistics: intervals, an exact paired test, and Holm's correction.

A run gives one score a problem, so S seeds on the same N problems give a matrix [S, N]. Seeds and problems are both
drawn from larger populations. Scores of one seed are alike, and so are scores of one problem, so the interval resamples
whole rows and whole columns. The test looks at seeds alone, as a claim about a training method is a claim about seeds.

Deviation from the two-way bootstrap of a model with random effects: the "pigeonhole" bootstrap resamples rows and
columns at once and counts the residual's variance three times, so its intervals are somewhat wide (Owen 2007,
0712.1111, section 3).
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
  """Holds a mean and its 95 % interval.

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
  """Holds the result of an exact paired test.

  Attributes:
    p: two-sided p-value.
    smallest: the smallest p-value possible with S seeds: 2 / 2^S.
  """

  p: float
  smallest: float

  @property
  def can_reject(self) -> bool:
    """Tells whether the number of seeds allows a p-value of .05 at all."""
    return self.smallest <= ALPHA


def interval(scores: np.ndarray, *, resamples: int = 2000, seed: int = 0) -> Interval:
  """Returns the mean and its 95 % percentile interval, clustered over seeds and problems.

  Pigeonhole bootstrap (Owen 2007, 0712.1111):

    mean* = Σ_s Σ_n u_s v_n x_sn / Σ_s Σ_n u_s v_n

  The sums run over the scores that are not NaN; u and v are multinomial counts of S seeds and of N problems drawn with
  replacement. With one seed, only problems are resampled.

  Args:
    scores: float [S, N], or differences of paired scores; NaN if a problem has no score.
    resamples: number of draws.
    seed: of the draws; equal scores and seeds give equal intervals.

  Raises:
    InputError: if `scores` is not a matrix, or has no number.
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
  """Runs the exact two-sided paired sign-flip test of mean 0 (Fisher's randomisation test).

  p is the share of the 2^S sign patterns whose |mean| is at least the observed one. Under the null hypothesis both
  signs of a pair's difference are equally likely.

  Args:
    differences: float [S], one a seed.

  Raises:
    InputError: if there is no difference, there are more than 20, or one is not finite.
  """
  differences = np.asarray(differences, np.float64)
  if differences.ndim != 1 or not 1 <= len(differences) <= _MOST_SEEDS or not np.isfinite(differences).all():
    raise InputError(f"sign-flip test: found {differences}, expected 1 to {_MOST_SEEDS} finite differences")
  # The first sign is fixed: a pattern and its opposite have the same |mean|.
  others = len(differences) - 1
  signs = np.array(list(itertools.product((1.0, -1.0), repeat=others))).reshape(2**others, others)
  sums = np.abs(differences[0] + signs @ differences[1:])
  tolerance = 1e-12 * np.abs(differences).sum()  # sums that differ only by rounding count as equal
  return SignFlip(float(np.mean(sums >= abs(differences.sum()) - tolerance)), 2.0 / 2 ** len(differences))


def holm(p_values: Sequence[float]) -> np.ndarray:
  """Adjusts p-values by Holm's step-down method (Holm 1979).

  Rejecting where the adjusted value is at most .05 keeps the family-wise error at most .05. With p sorted in ascending
  order:

    adjusted_i = max_{j ≤ i} min(1, (m − j + 1) p_j)

  Args:
    p_values: float [m], in any order.

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
  """Interpolates a run's scores linearly between its evaluations.

  Args:
    costs: float [E], the cost up to each evaluation (tokens, updates or seconds), in ascending order.
    scores: float [E] or [E, N].
    wanted: float [K], the costs at which scores are wanted.

  Returns:
    float64 [K] or [K, N]. NaN before the first and after the last evaluation, as nothing is extrapolated.

  Raises:
    InputError: if there is no evaluation, or the costs are not one for each evaluation in ascending order.
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
  # An end with weight 0 is left out, as it may be NaN and 0 · NaN is NaN.
  parts = [np.where(weight == 0, 0.0, weight * scores[i]) for weight, i in ((1 - share, left), (share, right))]
  return sum(parts)
