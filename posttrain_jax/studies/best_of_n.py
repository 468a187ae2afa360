"""Best-of-n by a reward model: what the best of n samples is worth by another measure, and how that grows with the KL.

Of M samples of a prompt, sorted by the proxy, sample i (from 1) is the best of n drawn without replacement with the
probability C(i − 1, n − 1) / C(M, n). The mean over all C(M, n) subsets is therefore one weighted sum: exact, without
drawing, and an unbiased estimate of the best of n fresh samples. Where the proxy is also what is measured, it is the
estimate of WebGPT's appendix (2112.09332) and, of 0 and 1, pass@k.

Over-optimisation (Gao et al., 2210.10760): with d = √KL the gold reward of the best by a proxy is d (α − β d) above
that of one sample. It rises, turns at d = α / 2β, and falls while the proxy still rises.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from posttrain_jax.types import Group, InputError


@dataclasses.dataclass(frozen=True)
class Curve:
  """A mean over prompts for each n, with its 95 % percentile bootstrap interval over prompts.

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
  """gold(d) − gold(0) = d (α − β d), with 95 % percentile bootstrap intervals over prompts.

  Attributes:
    alpha: α, the slope at the start.
    alpha_interval: (low, high).
    beta: β, above 0 where the curve bends down.
    beta_interval: (low, high).
    rms_error: root mean square distance of the mean curve from the fit, in the gold reward's units.
  """

  alpha: float
  alpha_interval: tuple[float, float]
  beta: float
  beta_interval: tuple[float, float]
  rms_error: float

  def __call__(self, d: np.ndarray) -> np.ndarray:
    """The fitted gain at d = √KL."""
    return d * (self.alpha - self.beta * d)


def best_of_n(groups: Sequence[Group], scores: Sequence[np.ndarray], n: int) -> list[Group]:
  """The best of each prompt's first n answers: groups of one answer, with all that was known of it.

  Args:
    groups: P prompts with their answers, at least n each.
    scores: P arrays, float [G], for instance of `ModelReward.score_groups`; among equal ones the first drawn is taken.
    n: how many to choose from.

  Raises:
    InputError: n below 1, fewer answers than n, as many scores as answers are not there, or a score is not finite.
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
    cut = {name: None if (x := getattr(group, name)) is None else x[best] for name in ("accuracy", "rewards", "valid")}
    picked.append(
      dataclasses.replace(
        group,
        answers=group.answers[best],
        texts=group.texts[best],
        components={name: values[best] for name, values in group.components.items()},
        **cut,
      )
    )
  return picked


def kl_bound(n: np.ndarray | int) -> np.ndarray:
  """log n − (n − 1) / n: KL of the best of n from one sample, in nats.

  Exact where no two samples are alike, else an upper bound (Beirami et al., 2401.01879).
  """
  n = np.asarray(n, np.float64)
  return np.log(n) - (n - 1) / n


def expected_best(proxy: np.ndarray, values: np.ndarray, ns: Sequence[int]) -> np.ndarray:
  """Unbiased estimate of E[value of the best by proxy of n samples], per prompt.

    Σ_i C(i − 1, n − 1) / C(M, n) · value of sample i in ascending order of the proxy

  Among equal proxy scores each sample is as likely to be taken: their values count with their mean, which is exact.

  Args:
    proxy: float [P, M], what the best is chosen by.
    values: float [P, M], what is measured of it: the gold reward, or the proxy itself.
    ns: N numbers of samples, each from 1 to M.

  Returns:
    float64 [P, N].

  Raises:
    InputError: shapes differ, a number is not finite, or an n is not from 1 to M.
  """
  proxy, values = np.asarray(proxy, np.float64), np.asarray(values, np.float64)
  if proxy.ndim != 2 or proxy.shape != values.shape or not proxy.size:
    raise InputError(f"best of n: proxy has shape {proxy.shape}, values {values.shape}, expected [prompts, samples]")
  if not (np.isfinite(proxy).all() and np.isfinite(values).all()):
    raise InputError("best of n: a proxy score or a value is not finite")
  weights = np.stack([_rank_weights(proxy.shape[1], n) for n in ns], axis=1)  # [M, N]
  return np.stack([_mean_of_ties(*row) @ weights for row in zip(proxy, values)])


def _rank_weights(samples: int, n: int) -> np.ndarray:
  """C(i − 1, n − 1) / C(M, n) for i = 1 … M, downwards from n / M by ratios, so that no binomial overflows."""
  if not 1 <= n <= samples:
    raise InputError(f"best of n: n is {n}, expected 1 to the {samples} samples of a prompt")
  rank = np.arange(samples, 1, -1)
  ratios = np.maximum(rank - n, 0) / (rank - 1)
  return (n / samples * np.cumprod([1.0, *ratios]))[::-1]


def _mean_of_ties(proxy: np.ndarray, values: np.ndarray) -> np.ndarray:
  """Values in ascending order of the proxy, those of equal proxy scores replaced by their mean."""
  _, index, count = np.unique(proxy, return_inverse=True, return_counts=True)
  return np.repeat(np.bincount(index, weights=values) / count, count)


def on_scale_of(proxy: np.ndarray, gold: np.ndarray) -> np.ndarray:
  """The proxy in the gold reward's units: its zero and unit mean nothing, and its offset of a prompt neither.

    mean gold of the prompt + (proxy − mean proxy of the prompt) · σ_gold / σ_proxy

  with σ the standard deviations around the prompts' means, pooled over prompts. So both curves start at one point.

  Args:
    proxy: float [P, M].
    gold: float [P, M].
  """
  centered = proxy - proxy.mean(axis=1, keepdims=True)
  spread = gold - gold.mean(axis=1, keepdims=True)
  scale = np.sqrt(np.square(spread).mean() / max(np.square(centered).mean(), np.finfo(np.float64).tiny))
  return gold.mean(axis=1, keepdims=True) + centered * scale


def order_accuracy(proxy: np.ndarray, gold: np.ndarray) -> float:
  """Share of all pairs of a prompt's samples with different gold rewards that the proxy orders as gold does; ties half.

  Args:
    proxy: float [P, M].
    gold: float [P, M].

  Returns:
    In [0, 1], every pair weighing the same; NaN where no gold rewards differ.
  """
  right = total = 0.0
  for scores, rewards in zip(proxy, gold):
    better = rewards[:, None] > rewards
    right += np.sum((np.sign(scores[:, None] - scores) + 1) / 2, where=better)
    total += better.sum()
  return float(right / total) if total else float("nan")


def curve(per_prompt: np.ndarray, *, seed: int = 0, resamples: int = 1000) -> Curve:
  """Mean over prompts of `expected_best` with its interval.

  Args:
    per_prompt: float [P, N].
    seed: of the bootstrap; equal inputs and seeds give equal intervals.
    resamples: of the bootstrap.
  """
  low, high = np.percentile(_resampled(per_prompt, seed, resamples), (2.5, 97.5), axis=0)
  return Curve(per_prompt.mean(axis=0), low, high)


def fit(per_prompt: np.ndarray, ns: Sequence[int], *, seed: int = 0, resamples: int = 1000) -> Fit:
  """Least squares of α and β in gold(d) − gold(0) = d (α − β d) (Gao et al., 2210.10760), d = √(log n − (n − 1) / n).

  Args:
    per_prompt: float [P, N], gold rewards of the best of n.
    ns: N numbers, the first one 1, at least two others.
    seed: of the bootstrap.
    resamples: of the bootstrap.

  Raises:
    InputError: ns does not start with 1 or has fewer than three different numbers.
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
  """Means over prompts drawn with replacement: [resamples, N]."""
  rng, prompts = np.random.default_rng(seed), len(per_prompt)
  return np.stack([per_prompt[rng.integers(prompts, size=prompts)].mean(axis=0) for _ in range(resamples)])
