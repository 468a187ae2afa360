"""Measures calibration: whether a model that says 80 % is right four times in five.

A probability is what the model claims, an outcome is whether it turned out so: 0 or 1, or a half for a tie.
"""

import dataclasses

import numpy as np

from posttrain_jax.types import InputError

_SERIES = "#0072b2"


@dataclasses.dataclass(frozen=True)
class Reliability:
  """Holds claims and outcomes by bins of equal width of the claim.

  Attributes:
    edges: float64 [bins + 1], from 0 to 1; a bin has its lower edge, the last one both.
    confidence: float64 [bins], mean probability in the bin; NaN where it is empty.
    accuracy: float64 [bins], mean outcome; NaN where it is empty.
    count: int64 [bins].
  """

  edges: np.ndarray
  confidence: np.ndarray
  accuracy: np.ndarray
  count: np.ndarray


def reliability(probabilities: np.ndarray, outcomes: np.ndarray, *, bins: int = 10) -> Reliability:
  """Computes the mean probability and the mean outcome of each bin.

  Args:
    probabilities: float [N] in [0, 1].
    outcomes: bool or float [N] in [0, 1].
    bins: equal widths between 0 and 1.

  Raises:
    InputError: if there are no entries, if lengths differ, if a value is NaN or outside [0, 1], or if bins is below 1.
  """
  probabilities, outcomes = _checked(probabilities, outcomes)
  if bins < 1:
    raise InputError(f"bins is {bins}, expected at least 1")
  edges = np.linspace(0, 1, bins + 1)
  index = np.minimum(np.searchsorted(edges, probabilities, side="right") - 1, bins - 1)
  count = np.bincount(index, minlength=bins)
  with np.errstate(invalid="ignore"):  # an empty bin has no mean
    confidence, accuracy = (np.bincount(index, weights=x, minlength=bins) / count for x in (probabilities, outcomes))
  return Reliability(edges=edges, confidence=confidence, accuracy=accuracy, count=count)


def expected_calibration_error(probabilities: np.ndarray, outcomes: np.ndarray, *, bins: int = 10) -> float:
  """Computes the ECE: the weighted mean distance between claim and outcome over bins.

  ECE = Σ_b n_b / N · |accuracy_b − confidence_b|     (Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599, eq. 3)

  It depends on the bins, and noise within them adds to it. Arguments and errors as in `reliability`.
  """
  bin_ = reliability(probabilities, outcomes, bins=bins)
  return float(np.nansum(bin_.count * np.abs(bin_.accuracy - bin_.confidence)) / bin_.count.sum())


def brier_score(probabilities: np.ndarray, outcomes: np.ndarray) -> float:
  """Computes the mean squared distance between claim and outcome (Brier 1950).

  0 is perfect; always saying ½ scores ¼ on outcomes of 0 and 1. Arguments and errors as in `reliability`.
  """
  probabilities, outcomes = _checked(probabilities, outcomes)
  return float(np.mean(np.square(probabilities - outcomes)))


def pair_confidence(margins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the claims of a Bradley-Terry model about comparisons, and whether they are right.

  Args:
    margins: float [N], score of the answer that people preferred minus that of the other.

  Returns:
    Confidence σ(|margin|) in [½, 1], of the order that the model claims; outcomes, 1 where that is the people's order,
    ½ at a tie and 0 else. Both float64 [N].
  """
  margins = np.asarray(margins, np.float64)
  return 1 / (1 + np.exp(-np.abs(margins))), (np.sign(margins) + 1) / 2


def wilson_interval(mean: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Computes the 95 % interval of a proportion (Wilson 1927).

  It also holds for few entries and near 0 and 1.

  Args:
    mean: float [...], the share observed; NaN where there was nothing to observe.
    count: integer [...], independent observations.

  Returns:
    Lower and upper ends, float64 [...]; NaN where mean is.
  """
  mean, count = np.asarray(mean, np.float64), np.maximum(np.asarray(count, np.float64), 1)
  z = 1.959963984540054  # the normal distribution's 97.5 % quantile
  center = (mean + z**2 / (2 * count)) / (1 + z**2 / count)
  half = z / (1 + z**2 / count) * np.sqrt(mean * (1 - mean) / count + z**2 / (4 * count**2))
  return np.clip(center - half, 0, 1), np.clip(center + half, 0, 1)


def _checked(probabilities: np.ndarray, outcomes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  probabilities, outcomes = np.asarray(probabilities, np.float64), np.asarray(outcomes, np.float64)
  if probabilities.ndim != 1 or probabilities.shape != outcomes.shape or not len(probabilities):
    shapes = f"probabilities have shape {probabilities.shape} and outcomes {outcomes.shape}"
    raise InputError(f"calibration: {shapes}, expected [N] both, N > 0")
  for name, values in (("probabilities", probabilities), ("outcomes", outcomes)):
    wrong = ~((values >= 0) & (values <= 1))
    if wrong.any():
      where = int(np.argmax(wrong))
      raise InputError(f"calibration: {name}[{where}] is {values[where]}, expected a value in [0, 1]")
  return probabilities, outcomes
