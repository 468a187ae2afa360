"""Ranks several models by the Bradley-Terry model of who beats whom.

Model i beats model j with probability σ(s_i − s_j) (Bradley and Terry 1952, Biometrika 39). The strengths s are those
that make the comparisons most likely. A tie is half a win for each of the two.

A prior of a small precision keeps the strengths finite if one model always wins. It also fixes their mean, which is 0.
"""

from collections.abc import Sequence

import numpy as np

from posttrain_jax.evaluation.metrics import Estimate, bootstrap
from posttrain_jax.types import InputError

_PRIOR = 0.1
_STEPS, _CLOSE = 50, 1e-9  # of Newton's method: at most so many steps, until one is so small
_RESAMPLES = 300


def strengths(wins: np.ndarray) -> np.ndarray:
  """Computes the strengths of K models.

  Args:
    wins: float [K, K], how often the model of the row beats that of the column; a tie is ½ in both places.

  Returns:
    float64 [K], log-odds, with mean 0.
  """
  wins = np.asarray(wins, np.float64)
  played, found = wins + wins.T, np.zeros(len(wins))
  for _ in range(_STEPS):
    rates = 1 / (1 + np.exp(found[None, :] - found[:, None]))
    gradient = (wins - played * rates).sum(axis=1) - _PRIOR * found
    weights = played * rates * (1 - rates)
    curvature = np.diag(weights.sum(axis=1) + _PRIOR) - weights
    step = np.linalg.solve(curvature, gradient)
    found += step * min(1.0, 1.0 / max(np.abs(step).max(), 1e-12))  # at most 1, so that no step overshoots
    if np.abs(step).max() < _CLOSE:
      break
  return found


def ranking(names: Sequence[str], wins: np.ndarray, *, seed: int) -> dict[str, Estimate]:
  """Ranks models, the strongest first.

  Args:
    names: of the K models.
    wins: float [N, K, K], the wins on each of N questions.
    seed: of the intervals, which are over questions.

  Raises:
    InputError: if two models have met neither each other nor, in a chain, others that have.
  """
  _check_connected(names, wins.sum(axis=0))
  found = {
    name: bootstrap(
      lambda used, place=place: float(strengths(wins[used].sum(axis=0))[place]),
      len(wins),
      seed=seed,
      resamples=_RESAMPLES,
    )
    for place, name in enumerate(names)
  }
  return dict(sorted(found.items(), key=lambda item: -item[1].mean))


def _check_connected(names: Sequence[str], wins: np.ndarray) -> None:
  met = (wins + wins.T > 0) | np.eye(len(names), dtype=bool)
  for _ in names:
    met = (met.astype(int) @ met.astype(int)) > 0
  if not met[0].all():
    apart = names[int(np.argmin(met[0]))]
    raise InputError(f"ranking: {names[0]} and {apart} are not compared, not even through others; expected that")
