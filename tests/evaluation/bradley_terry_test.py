import numpy as np
import pytest

from posttrain_jax.evaluation.bradley_terry import ranking, strengths
from posttrain_jax.types import InputError


def test_two_models_differ_by_the_log_odds_of_a_win():
  # 3000 wins of 4000: log 3 between them, and the mean is 0.
  found = strengths(np.array([[0.0, 3000.0], [1000.0, 0.0]]))
  np.testing.assert_allclose(found, [np.log(3) / 2, -np.log(3) / 2], atol=1e-3)


def test_known_strengths_are_found_and_lie_in_their_intervals():
  true, rng = np.array([1.0, 0.2, -0.3, -0.9]), np.random.default_rng(0)
  wins = np.zeros((2000, 4, 4))
  for i in range(4):
    for j in range(i + 1, 4):
      first = rng.random(2000) < 1 / (1 + np.exp(true[j] - true[i]))
      wins[:, i, j], wins[:, j, i] = first, ~first
  found = ranking(["a", "b", "c", "d"], wins[:, ::-1, ::-1][:, ::-1, ::-1], seed=0)
  assert list(found) == ["a", "b", "c", "d"]
  for name, value in zip("abcd", true):
    assert found[name].mean == pytest.approx(value, abs=0.06)
    assert found[name].low < found[name].mean < found[name].high
    assert 0.03 < found[name].high - found[name].low < 0.2


def test_models_that_never_met_are_ranked_through_others():
  wins = np.zeros((1, 3, 3))
  wins[0, 0, 1], wins[0, 1, 0] = 300, 100
  wins[0, 1, 2], wins[0, 2, 1] = 300, 100
  found = ranking(["a", "b", "c"], wins, seed=0)
  assert found["a"].mean - found["c"].mean == pytest.approx(2 * np.log(3), abs=0.01)


def test_a_tie_is_half_a_win_of_each():
  np.testing.assert_allclose(strengths(np.array([[0, 5.0], [5.0, 0]])), 0, atol=1e-9)


def test_one_that_always_wins_has_a_finite_strength():
  found = strengths(np.array([[0, 100.0], [0, 0]]))
  assert np.isfinite(found).all() and found[0] > 2


def test_models_without_a_chain_of_comparisons_are_refused():
  wins = np.zeros((1, 4, 4))
  wins[0, 0, 1] = wins[0, 2, 3] = 1
  with pytest.raises(InputError, match="ranking: a and c are not compared, not even through others"):
    ranking(["a", "b", "c", "d"], wins, seed=0)
