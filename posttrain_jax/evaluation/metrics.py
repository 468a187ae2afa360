"""Computes accuracy over several samples a problem: avg@k, pass@k, maj@k, with uncertainty.

Each metric is first one score per problem; `estimate` then averages over problems. Problems, not samples, are the units
of the interval and of the standard error: samples of one problem are alike, and counting them as independent would make
both too small.

A judgement is the correctness of one sample in [0, 1], or NaN where the verifier gave none (it crashed or timed out).
NaN is no evidence: it is left out of its problem, never counted as wrong, and `invalid_count` says how many there are.
A problem without enough judgements has the score NaN and is left out of the mean.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class Estimate:
  """Holds a mean over problems with its uncertainty; NaN if there are too few problems.

  Attributes:
    mean: mean score of the problems that have one.
    standard_error: sample standard deviation of the scores (ddof 1) / √problems; NaN below two problems.
    low: lower end of the 95 % percentile bootstrap interval over problems.
    high: its upper end.
    problems: how many problems have a score.
  """

  mean: float
  standard_error: float
  low: float
  high: float
  problems: int


def avg_at_k(judgements: np.ndarray) -> np.ndarray:
  """Computes the mean correctness of each problem's k valid samples.

  Args:
    judgements: float [N, k], NaN where invalid.

  Returns:
    float64 [N], NaN for a problem without a valid sample.
  """
  judgements = _checked(judgements)
  valid = ~np.isnan(judgements)
  total = np.where(valid, judgements, 0.0).sum(axis=1)
  return np.where(valid.any(axis=1), total / np.maximum(valid.sum(axis=1), 1), np.nan)


def pass_at_k(judgements: np.ndarray, k: int) -> np.ndarray:
  """Estimates for each problem the probability that at least one of k samples is correct.

  Args:
    judgements: float [N, S], NaN where invalid; a sample is correct above .5.
    k: samples drawn, at most S.

  Returns:
    float64 [N], NaN for a problem with fewer than k valid samples.

  Raises:
    InputError: if k is not in 1 to S.
  """
  judgements = _checked(judgements)
  if not 1 <= k <= judgements.shape[1]:
    raise InputError(f"pass@k: k is {k}, expected 1 to the {judgements.shape[1]} samples of a problem")
  samples = (~np.isnan(judgements)).sum(axis=1)
  correct = (judgements > 0.5).sum(axis=1)  # NaN is not above .5
  scores = np.full(len(judgements), np.nan)
  enough = samples >= k
  scores[enough] = pass_probability(samples[enough], correct[enough], k)
  return scores


def pass_probability(samples: np.ndarray, correct: np.ndarray, k: int) -> np.ndarray:
  """Computes the unbiased estimate of pass@k (Chen et al. 2021, arXiv:2107.03374, equation 1).

  1 − C(n − c, k) / C(n, k)

  Computed as −expm1(Σ_j log1p(−c / (n − j))), j = 0 … k − 1: no factorial overflows, small values keep their digits.

  Args:
    samples: integer [...], samples n of each problem.
    correct: integer [...], correct ones c among them.
    k: samples drawn without replacement, 1 ≤ k ≤ n.

  Returns:
    float64 [...] in [0, 1].

  Raises:
    InputError: if k is not in 1 to n, or c is not in 0 to n.
  """
  samples, correct = np.broadcast_arrays(np.asarray(samples), np.asarray(correct))
  if k < 1 or (samples < k).any():
    raise InputError(f"pass@k: k is {k}, expected 1 to the number of samples, {samples.min(initial=np.iinfo(int).max)}")
  if (correct < 0).any() or (correct > samples).any():
    raise InputError("pass@k: the number of correct samples lies outside 0 to the number of samples")
  remaining = samples[..., None] - np.arange(k)
  with np.errstate(divide="ignore"):  # log 0: fewer than k wrong samples, so one of k is certainly correct
    log_all_wrong = np.log1p(-np.minimum(correct[..., None] / remaining, 1.0)).sum(axis=-1)
  return 0.0 - np.expm1(log_all_wrong)


def maj_at_k(answers: Sequence[Sequence[Hashable | None]], judgements: np.ndarray) -> np.ndarray:
  """Scores the answer that most valid samples of a problem give (self-consistency, arXiv:2203.11171).

  Samples with equal answers are one class. Samples without an extracted answer are one class too, which can win and is
  never correct. A tie is not broken: the score is the exact expectation over a uniform choice among the tied classes. A
  class is as correct as its samples are on average, should the judge have told them apart.

  Args:
    answers: N × k extracted answers, None where nothing could be extracted; equal answers compare and hash equal.
    judgements: float [N, k], NaN where invalid; invalid samples do not vote.

  Returns:
    float64 [N], NaN for a problem without a valid sample.
  """
  judgements = _checked(judgements)
  if [len(row) for row in answers] != [judgements.shape[1]] * len(judgements):
    raise ValueError(f"answers do not have the judgements' shape {judgements.shape}")
  return np.array([_vote(row, judged) for row, judged in zip(answers, judgements)], np.float64)


def _vote(answers: Sequence[Hashable | None], judgements: np.ndarray) -> float:
  classes = collections.defaultdict(list)
  for answer, judgement in zip(answers, judgements):
    if not np.isnan(judgement):
      classes[answer].append(0.0 if answer is None else float(judgement))
  most = max(map(len, classes.values()), default=0)
  winners = [math.fsum(votes) / most for votes in classes.values() if len(votes) == most]
  return math.fsum(winners) / len(winners) if winners else np.nan


def invalid_count(judgements: np.ndarray) -> int:
  """Counts the judgements that are NaN."""
  return int(np.isnan(_checked(judgements)).sum())


def estimate(scores: np.ndarray, *, seed: int = 0, resamples: int = 1000) -> Estimate:
  """Estimates mean, standard error and 95 % percentile bootstrap interval over problems (Efron 1979).

  Args:
    scores: float [N], one score a problem; NaN ones are left out.
    seed: of the resampling; equal scores and seeds give equal intervals.
    resamples: how often N problems are drawn with replacement.
  """
  scores = np.asarray(scores, np.float64)
  scores = scores[~np.isnan(scores)]
  count = len(scores)
  if count == 0:
    return Estimate(*[math.nan] * 4, problems=0)
  rng = np.random.default_rng(seed)
  means = [scores[rng.integers(count, size=count)].mean() for _ in range(resamples)]
  low, high = np.percentile(means, (2.5, 97.5))
  error = scores.std(ddof=1) / math.sqrt(count) if count > 1 else math.nan
  return Estimate(
    mean=float(scores.mean()), standard_error=float(error), low=float(low), high=float(high), problems=count
  )


def bootstrap(
  statistic: Callable[[np.ndarray], float], count: int, *, seed: int = 0, resamples: int = 1000
) -> Estimate:
  """Estimates a statistic that is no mean, such as an ECE, with its interval.

  The interval is the 95 % percentile bootstrap interval over units.

  Args:
    statistic: computes the value from the positions of the units that are used, int [n], each any number of times.
    count: number of units.
    seed: of the resampling; equal statistics and seeds give equal intervals.
    resamples: how often `count` units are drawn with replacement.

  Returns:
    The statistic of all units as the mean, its deviation over the resamples as the standard error, and the interval.
  """
  if count == 0:
    return Estimate(*[math.nan] * 4, problems=0)
  rng = np.random.default_rng(seed)
  values = np.array([statistic(rng.integers(count, size=count)) for _ in range(resamples)], np.float64)
  low, high = np.nanpercentile(values, (2.5, 97.5)) if not np.isnan(values).all() else (math.nan, math.nan)
  error = float(np.nanstd(values, ddof=1)) if count > 1 else math.nan
  return Estimate(float(statistic(np.arange(count))), error, float(low), float(high), problems=count)


def _checked(judgements: np.ndarray) -> np.ndarray:
  judgements = np.asarray(judgements, np.float64)
  if judgements.ndim != 2 or judgements.shape[1] < 1:
    raise ValueError(f"judgements have shape {judgements.shape}, expected [problems, samples]")
  if ((judgements < 0) | (judgements > 1)).any():
    raise ValueError("judgements lie outside [0, 1]")
  return judgements
