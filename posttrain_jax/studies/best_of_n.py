"""Chooses the best of n samples by one reward model and scores it by another.

Let the M samples of a prompt be sorted by the proxy, the reward model that chooses. If n of them are drawn without
replacement, sample i (from 1) is the best with probability C(i − 1, n − 1) / C(M, n). The mean over all C(M, n) subsets
is therefore one weighted sum. It needs no drawing, and is an unbiased estimate of the best of n fresh samples. If the
proxy is also the measure, it is the estimate of WebGPT's appendix (2112.09332); for rewards of 0 and 1 it is pass@k.

Over-optimisation (Gao et al., 2210.10760): with d = √KL, the gold reward of the best by a proxy is d (α − β d) above
that of one sample. It rises up to d = α / 2β, then falls while the proxy still rises.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from posttrain_jax.types import Group, InputError


@dataclasses.dataclass(frozen=True)
class BestOfNCurve:
  """Holds a mean over prompts for each n, with its 95 % interval.

  The interval is a percentile bootstrap over prompts.

  Attributes:
    mean: float64 [N].
    low: float64 [N].
    high: float64 [N].
  """

  mean: np.ndarray
  low: np.ndarray
  high: np.ndarray


@dataclasses.dataclass(frozen=True)
class Fit:
  """Holds the fit gold(d) − gold(0) = d (α − β d).

  The intervals are 95 % percentile bootstraps over prompts.

  Attributes:
    alpha: α, the slope at the start.
    alpha_interval: (low, high).
    beta: β, above 0 if the curve bends down.
    beta_interval: (low, high).
    rms_error: root mean square distance of the mean curve from the fit, in the gold reward's units.
  """

  alpha: float
  alpha_interval: tuple[float, float]
  beta: float
  beta_interval: tuple[float, float]
  rms_error: float

  def __call__(self, d: np.ndarray) -> np.ndarray:
    """Returns the fitted gain at d = √KL."""
    return d * (self.alpha - self.beta * d)


def best_of_n(groups: Sequence[Group], scores: Sequence[np.ndarray], n: int) -> list[Group]:
  """Keeps the best of each prompt's first n answers.

  Args:
    groups: P prompts with their answers, at least n each.
    scores: P arrays, float [G], for instance of `ModelReward.score_groups`. Of equal scores the first counts as best.
    n: number of answers to choose from.

  Returns:
    Groups of one answer each, with the answer's text, rewards and other fields.

  Raises:
    InputError: if n is below 1, a group has fewer than n answers, the number of scores differs from that of groups or
      answers, or a score is not finite.
  """
  if len(groups) != len(scores):
    raise InputError(f"best of n: {len(groups)} groups with {len(scores)} arrays of scores, expected as many")
  picked = []
  for group, given in zip(groups, scores):
    if not 1 <= n <= len(group.answers) == len(given):
      raise InputError(
        f"best of n: n is {n}, prompt {group.prompt.index} has {len(group.answers)} answers with {len(given)} scores"
      )
    if not np.isfinite(given[:n]).all():
      raise InputError(f"best of n: a score of prompt {group.prompt.index} is not finite")
    best = slice(at := int(np.argmax(given[:n])), at + 1)
    picked.append(
      dataclasses.replace(
        group,
        answers=group.answers[best],
        texts=group.texts[best],
        components={name: values[best] for name, values in group.components.items()},
        accuracy=_at(group.accuracy, best),
        rewards=_at(group.rewards, best),
        valid=_at(group.valid, best),
      )
    )
  return picked


def _at(values: np.ndarray | None, at: slice) -> np.ndarray | None:
  return None if values is None else values[at]


def kl_bound(n: np.ndarray | int) -> np.ndarray:
  """Returns the KL in nats of the best of n from one sample.

    log n − (n − 1) / n

  It is exact if no two samples are equal, otherwise an upper bound (Beirami et al., 2401.01879).
  """
  n = np.asarray(n, np.float64)
  return np.log(n) - (n - 1) / n


def expected_best(proxy: np.ndarray, values: np.ndarray, ns: Sequence[int]) -> np.ndarray:
  """Estimates each prompt's expected value of the best of n, without bias.

    Σ_i C(i − 1, n − 1) / C(M, n) · value of sample i in ascending order of the proxy

  Samples of equal proxy score are equally likely to be chosen, so their values are replaced by their mean, which is
  exact.

  Args:
    proxy: float [P, M], scores by which the best is chosen.
    values: float [P, M], values that are measured: the gold reward, or the proxy itself.
    ns: N numbers of samples, each from 1 to M.

  Returns:
    float64 [P, N].

  Raises:
    InputError: if the shapes differ, a number is not finite, or an n is not from 1 to M.
  """
  proxy, values = np.asarray(proxy, np.float64), np.asarray(values, np.float64)
  if proxy.ndim != 2 or proxy.shape != values.shape or not proxy.size:
    raise InputError(f"best of n: proxy has shape {proxy.shape}, values {values.shape}, expected [prompts, samples]")
  if not (np.isfinite(proxy).all() and np.isfinite(values).all()):
    raise InputError("best of n: a proxy score or a value is not finite")
  weights = np.stack([_rank_weights(proxy.shape[1], n) for n in ns], axis=1)  # [M, N]
  return np.stack([_mean_of_ties(*row) @ weights for row in zip(proxy, values)])


def _rank_weights(samples: int, n: int) -> np.ndarray:
  """Returns the weights of samples in ascending order of the proxy, [M].

    C(i − 1, n − 1) / C(M, n),   i = 1 … M

  The weights are products of ratios, from n / M at i = M downwards, so binomials cannot overflow.
  """
  if not 1 <= n <= samples:
    raise InputError(f"best of n: n is {n}, expected 1 to the {samples} samples of a prompt")
  rank = np.arange(samples, 1, -1)
  ratios = np.maximum(rank - n, 0) / (rank - 1)
  return (n / samples * np.cumprod([1.0, *ratios]))[::-1]


def _mean_of_ties(proxy: np.ndarray, values: np.ndarray) -> np.ndarray:
  """Sorts values by the proxy and replaces those of equal proxy scores by their mean."""
  _, index, count = np.unique(proxy, return_inverse=True, return_counts=True)
  return np.repeat(np.bincount(index, weights=values) / count, count)


def on_scale_of(proxy: np.ndarray, gold: np.ndarray) -> np.ndarray:
  """Shifts and scales the proxy to the gold reward's units.

    mean gold of the prompt + (proxy − mean proxy of the prompt) · σ_gold / σ_proxy

  σ is the standard deviation around the prompts' means, pooled over prompts. The proxy's zero, unit and offset of a
  prompt have no meaning of their own. On this scale both curves start at the same point.

  Args:
    proxy: float [P, M].
    gold: float [P, M].
  """
  centered = proxy - proxy.mean(axis=1, keepdims=True)
  spread = gold - gold.mean(axis=1, keepdims=True)
  scale = np.sqrt(np.square(spread).mean() / max(np.square(centered).mean(), np.finfo(np.float64).tiny))
  return gold.mean(axis=1, keepdims=True) + centered * scale


def order_accuracy(proxy: np.ndarray, gold: np.ndarray) -> float:
  """Returns the share of pairs that the proxy orders as the gold reward does.

  The pairs are those of a prompt's samples with different gold rewards. A tie of the proxy counts half.

  Args:
    proxy: float [P, M].
    gold: float [P, M].

  Returns:
    A share in [0, 1] in which all pairs have the same weight; NaN if no gold rewards differ.
  """
  right = total = 0.0
  for scores, rewards in zip(proxy, gold):
    better = rewards[:, None] > rewards
    right += np.sum((np.sign(scores[:, None] - scores) + 1) / 2, where=better)
    total += better.sum()
  return float(right / total) if total else float("nan")


def curve(per_prompt: np.ndarray, *, seed: int = 0, resamples: int = 1000) -> BestOfNCurve:
  """Averages over prompts, with an interval.

  Args:
    per_prompt: float [P, N], as `expected_best` returns.
    seed: of the bootstrap; equal inputs and seeds give equal intervals.
    resamples: of the bootstrap.
  """
  low, high = np.percentile(_resampled(per_prompt, seed, resamples), (2.5, 97.5), axis=0)
  return BestOfNCurve(per_prompt.mean(axis=0), low, high)


def fit(per_prompt: np.ndarray, ns: Sequence[int], *, seed: int = 0, resamples: int = 1000) -> Fit:
  """Fits α and β by least squares (Gao et al., 2210.10760).

    gold(d) − gold(0) = d (α − β d),   d = √(log n − (n − 1) / n)

  Args:
    per_prompt: float [P, N], gold rewards of the best of n.
    ns: N numbers of samples: 1, and at least two others.
    seed: of the bootstrap.
    resamples: of the bootstrap.

  Raises:
    InputError: if `ns` does not start with 1 or has fewer than three different numbers.
  """
  if len(set(ns)) < 3 or ns[0] != 1:
    raise InputError(f"best of n: a fit over n = {tuple(ns)}, expected 1 and at least two others")
  d = np.sqrt(kl_bound(np.array(ns)))
  design = np.stack([d, -np.square(d)], axis=1)
  solve = np.linalg.pinv(design)  # [2, N]

  def coefficients(means):  # [..., N] → [..., 2]
    return (means - means[..., :1]) @ solve.T

  mean = per_prompt.mean(axis=0)
  alpha, beta = coefficients(mean)
  low, high = np.percentile(coefficients(_resampled(per_prompt, seed, resamples)), (2.5, 97.5), axis=0)
  error = np.sqrt(np.square(mean - mean[0] - design @ (alpha, beta)).mean())
  intervals = [(float(a), float(b)) for a, b in zip(low, high)]
  return Fit(float(alpha), intervals[0], float(beta), intervals[1], float(error))


def _resampled(per_prompt: np.ndarray, seed: int, resamples: int) -> np.ndarray:
  """Returns means over prompts drawn with replacement, [resamples, N]."""
  rng, prompts = np.random.default_rng(seed), len(per_prompt)
  return np.stack([per_prompt[rng.integers(prompts, size=prompts)].mean(axis=0) for _ in range(resamples)])
