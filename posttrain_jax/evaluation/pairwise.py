"""Compares the answers of two models to the same questions, pair by pair, with any judge.

A judge may prefer an answer for its place or for its length. So it sees each pair in both orders, and only what it
says in both counts as a win or a loss. A second rate of wins is that of answers of equal length.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from posttrain_jax.evaluation.metrics import Estimate, bootstrap, estimate
from posttrain_jax.types import InputError

# Says of each (question, first answer, second answer) how far the first one is preferred: 1, 0, or between them.
PairJudge = Callable[[Sequence[tuple[Any, str, str]]], Sequence[float]]
RESAMPLES = 300  # of the rate at equal length
_PRIOR = 0.1  # precision of the prior on both coefficients, so that they are finite if one model always wins
_STEPS, _CLOSE = 30, 1e-6  # of Newton's method: at most so many steps, until one is so small


@dataclasses.dataclass(frozen=True)
class PairwiseResult:
  """Holds how often one model's answers are preferred to another's; intervals are over questions.

  Attributes:
    win: share of pairs in which the answer of the first model is preferred in both orders.
    tie: share without a preference that is the same in both orders.
    loss: share in which the answer of the second model is preferred in both orders.
    win_rate: wins and half of the ties.
    win_rate_equal_length: the same if answers were equally long (`equal_length_rate`).
    first_place: how far the judge prefers what it reads first; 0.5 for one that does not look at the place.
    shorter_by: words by which the first model's answers are shorter.
  """

  win: Estimate
  tie: Estimate
  loss: Estimate
  win_rate: Estimate
  win_rate_equal_length: Estimate
  first_place: Estimate
  shorter_by: Estimate

  def measures(self) -> dict[str, Estimate]:
    """Returns all estimates by name."""
    return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@dataclasses.dataclass(frozen=True)
class JudgedPairs:
  """Holds what a judge says of each pair of answers.

  Attributes:
    straight: float array [N, S], how far the first model's answer is preferred where the judge reads it first.
    swapped: float array [N, S], how far the second model's answer is preferred where the judge reads it first.
    shorter: float array [N, S], words by which the first model's answer is shorter.
  """

  straight: np.ndarray
  swapped: np.ndarray
  shorter: np.ndarray

  def of(self, questions: np.ndarray) -> "JudgedPairs":
    """Returns the pairs of some questions, given as their indices or as a mask [N]."""
    return JudgedPairs(self.straight[questions], self.swapped[questions], self.shorter[questions])

  def outcomes(self) -> np.ndarray:
    """Returns the outcome of each pair for the first model, float [N, S].

    It is 1 for a win in both orders, 0 for a loss in both, and 0.5 for anything else.
    """
    wins = (self.straight > 0.5) & (self.swapped < 0.5)
    losses = (self.straight < 0.5) & (self.swapped > 0.5)
    return 0.5 + (wins.astype(np.float64) - losses) / 2

  def averaged(self, *, seed: int = 0) -> Estimate:
    """Returns how far the first model is preferred, as the mean of both orders."""
    return estimate(((self.straight + 1 - self.swapped) / 2).mean(axis=1), seed=seed)

  def result(self, *, seed: int = 0) -> PairwiseResult:
    """Returns the shares of all pairs.

    Args:
      seed: of the intervals.
    """
    outcomes = self.outcomes()
    wins, losses = outcomes == 1, outcomes == 0

    def mean(values: np.ndarray) -> Estimate:
      return estimate(values.mean(axis=1), seed=seed)

    return PairwiseResult(
      win=mean(wins),
      tie=mean(~(wins | losses)),
      loss=mean(losses),
      win_rate=mean(outcomes),
      win_rate_equal_length=bootstrap(
        lambda used: equal_length_rate(outcomes[used], self.shorter[used]),
        len(outcomes),
        seed=seed,
        resamples=RESAMPLES,
      ),
      first_place=mean((self.straight + self.swapped) / 2),
      shorter_by=mean(self.shorter),
    )


def judge_pairs(
  questions: Sequence[Any], ours: Sequence[Sequence[str]], theirs: Sequence[Sequence[str]], judge: PairJudge
) -> JudgedPairs:
  """Lets a judge compare two models, each pair once in both orders.

  Args:
    questions: N, as the judge takes them.
    ours: S answers of the first model to each question.
    theirs: as many of the second model; the i-th is compared with the i-th.
    judge: prefers one of two answers; a model, a person, or a rule.

  Raises:
    InputError: if there is no question, or if the models have not answered equally often.
  """
  counts = {len(each) for each in (*ours, *theirs)}
  if not questions or not len(questions) == len(ours) == len(theirs) or len(counts) != 1 or counts == {0}:
    raise InputError(
      f"comparison: {len(questions)} questions, {sum(map(len, ours))} and {sum(map(len, theirs))} answers; expected "
      "some questions and equally many answers of both models to each"
    )
  pairs = [(asked, a, b) for asked, first, second in zip(questions, ours, theirs) for a, b in zip(first, second)]
  shape = (len(questions), counts.pop())
  straight = np.asarray(judge(pairs), np.float64).reshape(shape)
  swapped = np.asarray(judge([(asked, b, a) for asked, a, b in pairs]), np.float64).reshape(shape)
  shorter = np.array([len(b.split()) - len(a.split()) for _, a, b in pairs], np.float64).reshape(shape)
  return JudgedPairs(straight, swapped, shorter)


def equal_length_rate(outcomes: np.ndarray, shorter: np.ndarray) -> float:
  """Estimates the rate of wins between answers of equal length.

  A logistic regression explains the outcome by the models and by tanh(difference in length / its deviation). The rate
  is that at a difference of 0. Source: length-controlled AlpacaEval (2404.04475), without its difficulty of a question.
  If one model's answers are always longer, length and model cannot be told apart; then the interval is wide.

  Args:
    outcomes: float array, 1 for a win, 0 for a loss, 0.5 for a tie.
    shorter: array of the same shape, words by which the first model's answer is shorter.
  """
  y, shorter = outcomes.ravel(), shorter.ravel()
  scale = math.sqrt(float(np.mean(shorter**2)))
  inputs = np.stack([np.ones_like(y), np.tanh(shorter / scale) if scale else np.zeros_like(y)], axis=1)
  weights = np.zeros(2)
  for _ in range(_STEPS):
    rates = _logistic(inputs @ weights)
    gradient = inputs.T @ (y - rates) - _PRIOR * weights
    curvature = (inputs * (rates * (1 - rates))[:, None]).T @ inputs + _PRIOR * np.eye(2)
    step = np.linalg.solve(curvature, gradient)
    weights += step * min(1.0, 1.0 / max(np.abs(step).max(), 1e-12))  # at most 1, so that no step overshoots
    if np.abs(step).max() < _CLOSE:
      break
  return float(_logistic(weights[:1])[0])


def _logistic(x: np.ndarray) -> np.ndarray:
  return 1 / (1 + np.exp(-np.clip(x, -50, 50)))
