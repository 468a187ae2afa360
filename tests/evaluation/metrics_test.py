import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain_jax.evaluation import metrics
from posttrain_jax.types import InputError

NAN = np.nan


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_probability_is_the_ratio_of_binomials(counts):
  n, c, k = counts
  expected = 1 - math.comb(n - c, k) / math.comb(n, k)
  np.testing.assert_allclose(metrics.pass_probability(n, c, k), expected, rtol=0, atol=1e-14)


def test_pass_probability_by_enumeration():
  correct = [1, 0, 0, 1, 0]
  subsets = list(itertools.combinations(correct, 3))
  np.testing.assert_allclose(metrics.pass_probability(5, 2, 3), np.mean([any(s) for s in subsets]), rtol=1e-14)


def test_pass_probability_at_sizes_where_factorials_overflow():
  # One correct among n: the k drawn contain it with probability k / n.
  np.testing.assert_allclose(metrics.pass_probability(1_000_000, 1, 1000), 1e-3, rtol=1e-12)
  np.testing.assert_array_equal(metrics.pass_probability([200, 200, 200], [0, 101, 200], 100), [0.0, 1.0, 1.0])


@pytest.mark.parametrize("n, c, k", [(4, 1, 5), (4, 1, 0), (4, 5, 2), (4, -1, 2)])
def test_pass_probability_refuses_impossible_counts(n, c, k):
  with pytest.raises(InputError):
    metrics.pass_probability([8, n], [1, c], k)


def test_pass_at_k_leaves_invalid_samples_out():
  judgements = [[1, 0, 0, NAN], [NAN, NAN, NAN, 1], [0, 0, 0, 0]]
  # Problem 0: 3 valid, 1 correct, so 1 − C(2, 2) / C(3, 2) = 2/3. Problem 1 has fewer than two valid samples.
  np.testing.assert_allclose(metrics.pass_at_k(judgements, 2), [2 / 3, NAN, 0], rtol=1e-14)
  with pytest.raises(InputError, match="k is 5"):
    metrics.pass_at_k(judgements, 5)


def test_pass_at_1_is_avg_at_k_on_binary_judgements():
  judgements = np.random.default_rng(0).integers(0, 2, (20, 8)).astype(float)
  np.testing.assert_allclose(metrics.pass_at_k(judgements, 1), metrics.avg_at_k(judgements), rtol=1e-14)


def test_avg_at_k_counts_invalid_neither_right_nor_wrong():
  np.testing.assert_array_equal(metrics.avg_at_k([[1, 0, NAN, NAN], [NAN] * 4, [0.5, 1, 1, 0.5]]), [0.5, NAN, 0.75])


@pytest.mark.parametrize(
  "answers, judged, expected",
  [
    (["7", "7", "8", None], [1, 1, 0, 0], 1.0),
    (["8", "8", "7", "7"], [0, 0, 1, 1], 0.5),  # two tied, one of them correct
    (["1", "2", "3", "7"], [0, 0, 0, 1], 0.25),
    ([None, None, None, "7"], [0, 0, 0, 1], 0.0),  # no answer wins
    ([None, None, "7", "7"], [0, 0, 1, 1], 0.5),  # no answer ties
    ([None, None, None, "7"], [1, 1, 1, 1], 0.0),  # no answer is never correct, whatever the judge says
    (["8", "8", "8", "7"], [NAN, NAN, NAN, 1], 1.0),  # invalid samples do not vote
    (["7", "7", "7", "8"], [1, 1, 0, 0], 2 / 3),  # the judge tells equal answers apart
    (["7", "7", "7", "7"], [NAN] * 4, NAN),
  ],
)
def test_maj_at_k(answers, judged, expected):
  np.testing.assert_allclose(metrics.maj_at_k([answers], [judged]), [expected], rtol=1e-14)


@given(st.lists(st.sampled_from([None, "1", "2", "3"]), min_size=1, max_size=8), st.randoms())
def test_maj_at_k_does_not_depend_on_the_order_of_samples(answers, random):
  judged = [float(answer == "2") for answer in answers]
  shuffled = random.sample(answers, len(answers))
  np.testing.assert_array_equal(
    metrics.maj_at_k([answers], [judged]), metrics.maj_at_k([shuffled], [[float(a == "2") for a in shuffled]])
  )


def test_estimate_by_hand():
  estimate = metrics.estimate([0.0, 1.0, NAN, 1.0, 1.0])
  assert (estimate.mean, estimate.problems) == (0.75, 4)
  np.testing.assert_allclose(estimate.standard_error, 0.5 / 2, rtol=1e-14)  # deviations −.75, .25 × 3: variance .75 / 3
  assert 0 <= estimate.low < 0.75 < estimate.high <= 1


def test_estimate_covers_the_mean_at_its_stated_rate():
  rng = np.random.default_rng(1)
  estimates = [metrics.estimate(rng.normal(size=100), seed=i, resamples=300) for i in range(400)]
  covered = np.mean([estimate.low <= 0 <= estimate.high for estimate in estimates])
  assert 0.91 < covered < 0.98  # 95 % nominal; binomial standard error 1.1 %, small-sample loss about 1 %


def test_interval_is_over_problems_not_samples():
  # All samples of a problem agree: 20 problems hold 20 pieces of evidence, not 160.
  judgements = np.repeat(np.arange(20)[:, None] % 2, 8, axis=1).astype(float)
  estimate = metrics.estimate(metrics.avg_at_k(judgements))
  np.testing.assert_allclose(estimate.standard_error, np.sqrt(0.25 / 19), rtol=1e-12)
  assert 0.3 < estimate.high - estimate.low < 0.55  # normal theory: 3.92 × .112 = .44; samples as units: .15


def test_estimate_is_seeded_and_handles_few_problems():
  scores = np.random.default_rng(0).random(30)
  assert metrics.estimate(scores, seed=3) == metrics.estimate(scores, seed=3)
  assert metrics.estimate(scores, seed=3).low != metrics.estimate(scores, seed=4).low
  single = metrics.estimate([0.25])
  assert (single.mean, single.low, single.high) == (0.25, 0.25, 0.25) and math.isnan(single.standard_error)
  empty = metrics.estimate([NAN])
  assert empty.problems == 0 and math.isnan(empty.mean) and math.isnan(empty.low)


def test_judgements_are_checked():
  assert metrics.invalid_count([[1, NAN], [NAN, 0]]) == 2
  with pytest.raises(ValueError, match="shape"):
    metrics.avg_at_k([1.0, 0.0])
  with pytest.raises(ValueError, match="outside"):
    metrics.avg_at_k([[1.0, -1.0]])
  with pytest.raises(ValueError, match="shape"):
    metrics.maj_at_k([["1"]], [[1.0, 0.0]])


def test_bootstrap_of_a_mean_is_the_estimate_of_a_mean():
  scores = np.random.default_rng(0).random(40)
  found = metrics.bootstrap(lambda drawn: scores[drawn].mean(), 40, seed=3)
  expected = metrics.estimate(scores, seed=3)
  np.testing.assert_allclose([found.mean, found.low, found.high], [expected.mean, expected.low, expected.high])
  assert found.standard_error == pytest.approx(expected.standard_error, rel=0.1)


def test_bootstrap_of_nothing():
  found = metrics.bootstrap(lambda drawn: 1.0, 0)
  assert found.problems == 0 and math.isnan(found.mean) and math.isnan(found.high)
