import math

import numpy as np
import pytest

from posttrain_jax.evaluation import calibration
from posttrain_jax.types import InputError

# Bins of a quarter: .1 and .2 | nothing | .5 and .7 | .75 and 1. Edges belong to the bin above, 1 to the last.
PROBABILITIES = np.array([0.1, 0.2, 0.5, 0.7, 0.75, 1.0])
OUTCOMES = np.array([0, 1, 1, 1, 0, 1])


def test_reliability_by_hand():
  bins = calibration.reliability(PROBABILITIES, OUTCOMES, bins=4)
  np.testing.assert_allclose(bins.edges, [0, 0.25, 0.5, 0.75, 1])
  np.testing.assert_array_equal(bins.count, [2, 0, 2, 2])
  np.testing.assert_allclose(bins.confidence, [0.15, np.nan, 0.6, 0.875], rtol=1e-15)
  np.testing.assert_allclose(bins.accuracy, [0.5, np.nan, 1, 0.5], rtol=1e-15)


def test_expected_calibration_error_by_hand():
  # (2 · .35 + 2 · .4 + 2 · .375) / 6
  np.testing.assert_allclose(calibration.expected_calibration_error(PROBABILITIES, OUTCOMES, bins=4), 0.375, rtol=1e-14)


def test_calibrated_claims_have_no_error():
  probabilities = np.repeat([0.25, 0.75], 4)
  outcomes = [1, 0, 0, 0, 1, 1, 1, 0]
  assert calibration.expected_calibration_error(probabilities, outcomes) == 0
  np.testing.assert_allclose(calibration.expected_calibration_error(1 - probabilities, outcomes), 0.5, rtol=1e-14)


def test_every_edge_belongs_to_the_bin_above():
  edges = np.linspace(0, 1, 11)[:-1]
  np.testing.assert_array_equal(calibration.reliability(edges, 0 * edges, bins=10).count, np.ones(10))


def test_brier_score_by_hand():
  np.testing.assert_allclose(calibration.brier_score([0.8, 0.3, 0.5], [1, 1, 0.5]), (0.04 + 0.49) / 3, rtol=1e-14)
  assert calibration.brier_score([0.5, 0.5], [True, False]) == 0.25


def test_pair_confidence_by_hand():
  confidence, outcomes = calibration.pair_confidence([math.log(3), -math.log(4), 0.0, 1000.0, -1000.0])
  np.testing.assert_allclose(confidence, [0.75, 0.8, 0.5, 1, 1], rtol=1e-14)
  np.testing.assert_array_equal(outcomes, [1, 0, 0.5, 1, 0])


def test_wilson_interval_solves_its_equation():
  # The ends are where the observed share is z standard errors of the end away.
  for mean, count in ((0.3, 10), (0.5, 1), (0.98, 400)):
    for end in calibration.wilson_interval(mean, count):
      np.testing.assert_allclose(abs(mean - end) / math.sqrt(end * (1 - end) / count), 1.959964, rtol=1e-6)
  # Nothing right out of 10: from exactly 0 to z² / (n + z²).
  low, high = calibration.wilson_interval([0.0, 1.0], [10, 10])
  np.testing.assert_allclose([low, 1 - high[::-1]], [[0, 1 - 0.2775], [0, 1 - 0.2775]], atol=1e-4)


@pytest.mark.parametrize(
  "probabilities, outcomes, bins, message",
  [
    ([], [], 10, "N > 0"),
    ([0.5], [1, 0], 10, r"\(1,\) and outcomes \(2,\)"),
    ([0.5, 1.2], [1, 0], 10, r"probabilities\[1\] is 1.2"),
    ([0.5, np.nan], [1, 0], 10, r"probabilities\[1\] is nan"),
    ([0.5, 0.2], [-1, 0], 10, r"outcomes\[0\] is -1"),
    ([0.5], [1], 0, "bins is 0"),
  ],
)
def test_bad_input_is_refused(probabilities, outcomes, bins, message):
  with pytest.raises(InputError, match=message):
    calibration.expected_calibration_error(probabilities, outcomes, bins=bins)
