import itertools

import numpy as np
import pytest

from posttrain_jax.studies.ablation_statistics import at_costs, holm, interval, sign_flip
from posttrain_jax.types import InputError


def test_sign_flip_by_hand():
  # Means of ±1 ±2 ±3 are ±6, ±4, ±2, 0, 0 over 3: only 6 and -6 are as far out as 6.
  assert sign_flip([1, 2, 3]).p == 2 / 8
  # With -1 2 3 the sum is 4: 6, 4, -4, -6 are as far out.
  assert sign_flip([-1, 2, 3]).p == 4 / 8
  assert sign_flip([0.0, 0.0]).p == sign_flip([0.3]).p == 1


def test_sign_flip_agrees_with_all_patterns():
  differences = np.random.default_rng(0).normal(0.4, 1, size=9)
  patterns = np.array(list(itertools.product((-1, 1), repeat=9)))
  expected = np.mean(np.abs((patterns * differences).mean(1)) >= abs(differences.mean()) - 1e-12)
  assert sign_flip(differences).p == pytest.approx(expected, abs=1e-12)
  assert sign_flip(-differences).p == sign_flip(differences).p


def test_equal_differences_tie_in_spite_of_rounding():
  assert sign_flip([0.1] * 10).p == 2 / 1024


def test_how_many_seeds_can_say_something():
  assert sign_flip([1.0] * 5).p == sign_flip([1.0] * 5).smallest == 0.0625 and not sign_flip([1.0] * 5).can_reject
  assert sign_flip([1.0] * 6).can_reject and sign_flip([1.0] * 10).smallest == pytest.approx(0.001953125)


@pytest.mark.parametrize("bad", [[], [float("nan"), 1.0], [1.0] * 21])
def test_sign_flip_refuses(bad):
  with pytest.raises(InputError, match="sign-flip"):
    sign_flip(bad)


def test_holm_by_hand():
  # Sorted .01 .02 .03 .04 times 4 3 2 1: .04 .06 .06 .04, made non-decreasing.
  np.testing.assert_allclose(holm([0.04, 0.01, 0.03, 0.02]), [0.06, 0.04, 0.06, 0.06])
  np.testing.assert_allclose(holm([0.6, 0.9]), [1.0, 1.0])
  assert holm([]).shape == (0,)


def test_interval_of_all_draws():
  # Two seeds, two problems: mean* takes rows (00, 01, 10, 11) and columns likewise with equal probability.
  scores = np.array([[0.0, 1.0], [3.0, 7.0]])
  means = [
    scores[np.ix_(rows, columns)].mean()
    for rows in itertools.product((0, 1), repeat=2)
    for columns in itertools.product((0, 1), repeat=2)
  ]
  found = interval(scores, resamples=20_000)
  assert found.mean == 2.75
  # Both ends are the least and the largest mean, which have probability 1/16 each.
  assert (found.low, found.high) == (min(means), max(means))


def test_interval_covers_both_ways_of_being_alike():
  rng = np.random.default_rng(1)
  noise = rng.normal(size=(10, 200)) * 0.01
  by_seed, by_problem = rng.normal(size=(10, 1)) + noise, rng.normal(size=(1, 200)) + noise
  for scores, effects in ((by_seed, by_seed.mean(1)), (by_problem, by_problem.mean(0))):
    width = interval(scores).high - interval(scores).low
    expected = 2 * 1.96 * effects.std() / np.sqrt(len(effects))
    assert width == pytest.approx(expected, rel=0.12)


def test_interval_leaves_out_what_is_not_there():
  scores = np.array([[1.0, np.nan, 0.0], [1.0, 1.0, np.nan]])
  found = interval(scores)
  assert found.mean == 0.75 and 0 <= found.low <= found.high <= 1
  assert interval(np.array([[0.25, 0.25]])) == type(found)(0.25, 0.25, 0.25)
  assert interval(scores, seed=3) == interval(scores, seed=3)
  with pytest.raises(InputError, match="0 numbers"):
    interval(np.full((2, 2), np.nan))


def test_one_seed_is_resampled_over_problems():
  scores = np.array([[0.0, 1.0] * 50])
  found = interval(scores)
  assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / 10, rel=0.1)


def test_at_costs_by_hand():
  scores = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.5]])
  found = at_costs([0, 10, 30], scores, [0, 5, 10, 20, 30])
  np.testing.assert_allclose(found, [[0, 1], [0.5, 0.5], [1, 0], [1, 0.25], [1, 0.5]])
  np.testing.assert_allclose(at_costs([0, 10, 30], scores[:, 0], [2.5]), [0.25])
  assert np.isnan(at_costs([5, 10], scores[:2], [4, 11])).all()


def test_at_costs_with_holes_and_without_change():
  np.testing.assert_allclose(at_costs([0, 10], [np.nan, 1.0], [10.0]), [1.0])
  assert np.isnan(at_costs([0, 10], [np.nan, 1.0], [9.0])).all()
  np.testing.assert_allclose(at_costs([0, 0, 10], [0.2, 0.4, 0.6], [5.0]), [0.5])
  np.testing.assert_allclose(at_costs([7], [0.3], [7.0]), [0.3])
  with pytest.raises(InputError, match="going up"):
    at_costs([3, 2], [0.1, 0.2], [2.5])
