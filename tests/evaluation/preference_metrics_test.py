import math

import numpy as np
import pytest
import scipy.stats

from posttrain_jax.evaluation import metrics as accuracy_metrics
from posttrain_jax.evaluation import preference_metrics
from posttrain_jax.types import InputError

LOG3 = math.log(3)
# Right by log 3, wrong by log 3, a tie, right by 2 log 3.
WINNERS, LOSERS = np.array([LOG3, 0, 1, 2 * LOG3]), np.array([0, LOG3, 1, 0])
LENGTHS = np.array([5, 3, 4, 9]), np.array([2, 6, 4, 1])
STRENGTHS = ["better", "slightly", None, "better"]


def example(pairs=200, seed=0):
  rng = np.random.default_rng(seed)
  winners, losers = rng.normal(0.5, 1, pairs), rng.normal(0, 1, pairs)
  lengths = rng.integers(1, 30, (2, pairs))
  return winners, losers, [None] * pairs, *lengths


def test_by_hand():
  result = preference_metrics.pair_metrics(WINNERS, LOSERS, STRENGTHS, *LENGTHS)
  expected = {
    "pairs": 4,
    "clusters": 4,
    "accuracy": 2.5 / 4,
    "strength/better/accuracy": 1.0,
    "strength/better/pairs": 2,
    "strength/slightly/accuracy": 0.0,
    "strength/slightly/pairs": 1,
    "margin_mean": LOG3 / 2,
    "margin_std": LOG3 * math.sqrt((0.25 + 2.25 + 0.25 + 2.25) / 4),
    "score_mean": (4 * LOG3 + 2) / 8,
    # σ(±log 3) = ¾, ¼; σ(2 log 3) = .9.
    "log_loss": -(math.log(0.75) + math.log(0.25) + math.log(0.5) + math.log(0.9)) / 4,
    "brier": (0.25**2 + 0.75**2 + 0.5**2 + 0.1**2) / 4,
    # Claims .75 (one of two right), .5 (a tie) and .9 (right).
    "ece": (2 * 0.25 + 0 + 0.1) / 4,
    "winner_longer": 2.5 / 4,
  }
  assert {name: result[name] for name in expected} == pytest.approx(expected, rel=1e-12)
  assert not any("None" in name for name in result)


def test_score_distribution_covers_winners_and_losers():
  result = preference_metrics.pair_metrics(np.arange(51, 102), np.arange(0, 51), [None] * 51, np.ones(51), np.ones(51))
  names = ("score_p05", "score_p50", "score_p95", "score_std")
  scores = np.arange(102)
  np.testing.assert_allclose([result[name] for name in names], [5.05, 50.5, 95.95, scores.std()], rtol=1e-12)


def test_length_correlations_are_scipys():
  winners, losers, strengths, *lengths = example()
  winners = np.round(winners, 1)  # ties
  result = preference_metrics.pair_metrics(winners, losers, strengths, *lengths)
  both = np.concatenate([winners, losers]), np.concatenate(lengths)
  np.testing.assert_allclose(result["length_pearson"], scipy.stats.pearsonr(*both)[0], rtol=1e-10)
  np.testing.assert_allclose(result["length_spearman"], scipy.stats.spearmanr(*both)[0], rtol=1e-10)


def test_a_constant_score_has_no_correlation_and_says_nothing():
  result = preference_metrics.pair_metrics(np.ones(3), np.ones(3), [None] * 3, [1, 2, 3], [3, 4, 5])
  assert math.isnan(result["length_pearson"]) and math.isnan(result["length_spearman"])
  assert (result["accuracy"], result["brier"], result["winner_longer"]) == (0.5, 0.25, 0.0)
  np.testing.assert_allclose(result["log_loss"], math.log(2), rtol=1e-15)


def test_huge_margins_stay_finite():
  result = preference_metrics.pair_metrics([1e4, -1e4], [0, 0], [None] * 2, [1, 2], [3, 4])
  assert (result["log_loss"], result["brier"], result["ece"]) == (5000, 0.5, 0.5)


def test_length_alone_can_look_like_a_reward_model():
  _, _, strengths, *lengths = example()
  result = preference_metrics.pair_metrics(lengths[0], lengths[1], strengths, *lengths)
  np.testing.assert_allclose([result["length_pearson"], result["length_spearman"]], [1, 1], rtol=1e-12)
  assert result["accuracy"] == result["winner_longer"]
  assert (result["longer_wins/accuracy"], result["shorter_wins/accuracy"], result["length_controlled"]) == (1, 0, 0.5)


def test_accuracy_with_and_against_length():
  winners, losers = np.array([3.0, 1.0, 5.0, 0.0, 2.0]), np.array([1.0, 2.0, 1.0, 0.0, 9.0])
  result = preference_metrics.pair_metrics(winners, losers, [None] * 5, [9, 9, 9, 2, 4], [5, 5, 5, 6, 4])
  # Three winners are longer, two of them scored higher; one is shorter, with a tie; the last pair is of equal lengths.
  assert result["longer_wins/accuracy"] == pytest.approx(2 / 3) and result["shorter_wins/accuracy"] == 0.5
  assert result["length_controlled"] == pytest.approx((2 / 3 + 0.5) / 2)
  only = preference_metrics.pair_metrics(winners[:1], losers[:1], [None], [9], [5])
  assert "shorter_wins/accuracy" not in only and "length_controlled" not in only


def test_pairs_on_their_own_have_the_bootstrap_interval_of_independent_problems():
  winners, losers, *rest = example()
  result = preference_metrics.pair_metrics(winners, losers, *rest, seed=3)
  expected = accuracy_metrics.estimate((winners > losers).astype(float), seed=3)
  np.testing.assert_allclose(
    [result["accuracy"], result["accuracy_low"], result["accuracy_high"]],
    [expected.mean, expected.low, expected.high],
    rtol=1e-12,
  )


def test_clusters_of_copies_widen_the_interval_to_that_of_the_originals():
  winners, losers, strengths, *lengths = example(50)
  alone = preference_metrics.pair_metrics(winners, losers, strengths, *lengths)
  copied = [np.repeat(x, 9) for x in (winners, losers, *lengths)]
  copied.insert(2, np.repeat(strengths, 9))
  clustered = preference_metrics.pair_metrics(*copied, clusters=[f"prompt {i // 9}" for i in range(450)])
  unaware = preference_metrics.pair_metrics(*copied)
  for name in ("accuracy", "accuracy_low", "accuracy_high"):
    np.testing.assert_allclose(clustered[name], alone[name], rtol=1e-12)
  assert (clustered["pairs"], clustered["clusters"]) == (450, 50)
  width, narrow = (x["accuracy_high"] - x["accuracy_low"] for x in (clustered, unaware))
  assert 2 < width / narrow < 4  # √9 but for the resampling


def test_large_clusters_weigh_more():
  values, clusters = np.array([1.0, 1, 1, 0]), np.array([0, 0, 0, 1])
  low, high = preference_metrics.cluster_interval(values, clusters)
  assert (low, high) == (0, 1)
  values, clusters = np.r_[np.ones(900), np.zeros(100)], np.r_[np.repeat(np.arange(10), 90), np.arange(100) % 10]
  # Every cluster has 90 right and 10 wrong: no spread between them, so the interval is Wilson's of ten.
  low, high = preference_metrics.cluster_interval(values, clusters)
  np.testing.assert_allclose([low, high], [0.5958, 0.9821], atol=1e-4)


def test_unanimous_clusters_do_not_claim_certainty():
  # Wilson at 2 of 2: from n / (n + z²).
  result = preference_metrics.pair_metrics(WINNERS, LOSERS, STRENGTHS, *LENGTHS)
  better = result["strength/better/accuracy_low"], result["strength/better/accuracy_high"]
  np.testing.assert_allclose(better, [2 / (2 + 1.959964**2), 1], rtol=1e-6)


@pytest.mark.parametrize(
  "change, message",
  [
    ({"winner_scores": []}, "0, 4, 4, 4, 4, 0 entries"),
    ({"strengths": ["better"]}, "4, 4, 1, 4, 4, 4 entries"),
    ({"clusters": [0, 1]}, "4, 4, 4, 4, 4, 2 entries"),
    ({"loser_scores": [0, 1, np.nan, 2]}, r"loser_scores\[2\] is nan"),
  ],
)
def test_bad_input_is_refused(change, message):
  given = {"winner_scores": WINNERS, "loser_scores": LOSERS, "strengths": STRENGTHS}
  given |= {"winner_lengths": LENGTHS[0], "loser_lengths": LENGTHS[1]} | change
  with pytest.raises(InputError, match=message):
    preference_metrics.pair_metrics(**given)
