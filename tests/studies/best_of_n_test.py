import itertools
import math

import numpy as np
import pytest

from posttrain_jax.evaluation import metrics
from posttrain_jax.studies import best_of_n
from posttrain_jax.types import Answer, FinishReason, Group, InputError, Prompt


def group_of(accuracy, index=0):
  """Makes a judged group whose answer i is the token i."""
  answers = []
  for i in range(len(accuracy)):
    one = np.zeros((1,), np.float32)
    answers.append(Answer(np.array([i], np.int32), one, one, np.zeros((1,), np.int32), FinishReason.EOS))
  accuracy = np.array(accuracy, np.float32)
  return Group(
    Prompt(index, (1, 2), {}),
    tuple(answers),
    texts=tuple(f"answer {i}" for i in range(len(accuracy))),
    components={"correct": accuracy},
    accuracy=accuracy,
    rewards=accuracy * 2,
    valid=np.ones(len(accuracy), bool),
  )


def by_enumeration(proxy, values, n):
  """Averages over all subsets of n samples; each of the tied best has the same probability."""
  found = []
  for chosen in map(list, itertools.combinations(range(len(proxy)), n)):
    best = proxy[chosen] == proxy[chosen].max()
    found.append(values[chosen][best].mean())
  return np.mean(found)


def test_the_best_of_two_of_three_by_hand():
  # Subsets of gold 5, 1, 3 by proxy 1 < 2 < 3: {1, 2} → 1, {1, 3} → 3, {2, 3} → 3.
  result = best_of_n.expected_best(np.array([[1.0, 2, 3]]), np.array([[5.0, 1, 3]]), [1, 2, 3])
  np.testing.assert_allclose(result, [[3, 7 / 3, 3]], rtol=1e-15)


def test_tied_samples_are_as_likely_to_be_taken():
  # Proxy 0, 1, 1 with gold 9, 2, 6: {0, 1} → 2, {0, 2} → 6, {1, 2} → 4; of all three, one of the tied two.
  result = best_of_n.expected_best(np.array([[0.0, 1, 1]]), np.array([[9.0, 2, 6]]), [1, 2, 3])
  np.testing.assert_allclose(result, [[17 / 3, 4, 4]], rtol=1e-15)


@pytest.mark.parametrize("levels", [3, 100])
def test_all_subsets_are_counted(levels):
  rng = np.random.default_rng(levels)
  proxy, gold = rng.integers(levels, size=(4, 8)).astype(float), rng.normal(size=(4, 8))
  result = best_of_n.expected_best(proxy, gold, range(1, 9))
  expected = [[by_enumeration(*row, n) for n in range(1, 9)] for row in zip(proxy, gold)]
  np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_the_order_of_samples_does_not_matter_and_each_prompt_is_its_own():
  rng = np.random.default_rng(0)
  proxy, gold, order = rng.integers(4, size=(3, 20)), rng.normal(size=(3, 20)), rng.permutation(20)
  result = best_of_n.expected_best(proxy, gold, [1, 5, 20])
  np.testing.assert_allclose(best_of_n.expected_best(proxy[:, order], gold[:, order], [1, 5, 20]), result, rtol=1e-12)
  np.testing.assert_allclose(best_of_n.expected_best(proxy[1:2], gold[1:2], [1, 5, 20]), result[1:2], rtol=1e-12)


def test_many_samples_neither_overflow_nor_lose_digits():
  # Of the ranks 1 … M themselves the best of n has the mean n (M + 1) / (n + 1).
  ranks, ns = np.arange(1.0, 4097)[None], np.array([1, 2, 64, 2048, 4096])
  np.testing.assert_allclose(best_of_n.expected_best(ranks, ranks, ns), [ns * 4097 / (ns + 1)], rtol=1e-11)


def test_choosing_by_correctness_is_pass_at_k():
  correct = (np.random.default_rng(1).random((5, 16)) < 0.2).astype(float)
  expected = np.stack([metrics.pass_at_k(correct, n) for n in (1, 4, 9)], axis=1)
  np.testing.assert_allclose(best_of_n.expected_best(correct, correct, [1, 4, 9]), expected, rtol=1e-12, atol=1e-15)


def test_the_kl_of_the_best_of_n():
  np.testing.assert_allclose(best_of_n.kl_bound([1, 2, 4]), [0, math.log(2) - 1 / 2, math.log(4) - 3 / 4], rtol=1e-15)


def test_the_first_of_the_best_is_picked_with_all_that_is_known_of_it():
  groups = [group_of([0, 1, 0, 1]), group_of([1, 0, 0, 0], index=1)]
  scores = [np.array([0.0, 2, 2, 9]), np.array([1.0, 3, 0, 0])]
  picked = best_of_n.best_of_n(groups, scores, 3)
  assert [len(group.answers) for group in picked] == [1, 1]
  assert [group.texts for group in picked] == [("answer 1",), ("answer 1",)]
  assert [int(group.answers[0].tokens[0]) for group in picked] == [1, 1]
  assert [group.accuracy.tolist() for group in picked] == [[1], [0]]
  assert picked[0].components["correct"].tolist() == [1] and picked[0].rewards.tolist() == [2]
  assert best_of_n.best_of_n(groups, scores, 4)[0].texts == ("answer 3",)


def test_the_proxy_is_put_on_the_gold_scale():
  # Proxy 10 ∓ 1 and 20 ∓ 3, gold 1 ∓ 2 and 5 ∓ 4: pooled variances 5 and 10, so one proxy unit is √2 of gold.
  proxy, gold = np.array([[9.0, 11], [17, 23]]), np.array([[3.0, -1], [1, 9]])
  root = math.sqrt(2)
  expected = [[1 - root, 1 + root], [5 - 3 * root, 5 + 3 * root]]
  np.testing.assert_allclose(best_of_n.on_scale_of(proxy, gold), expected, rtol=1e-12)


def test_a_constant_proxy_stays_at_the_gold_mean():
  scaled = best_of_n.on_scale_of(np.ones((2, 3)), np.array([[0.0, 1, 2], [3, 3, 6]]))
  assert scaled.tolist() == [[1, 1, 1], [4, 4, 4]]


def test_order_accuracy_by_hand():
  # Gold orders three pairs of the first prompt, two of the second; the proxy has 2 and ½ of them.
  proxy, gold = np.array([[1.0, 3, 2], [5, 5, 9]]), np.array([[0.0, 1, 2], [0, 1, 0]])
  np.testing.assert_allclose(best_of_n.order_accuracy(proxy, gold), (2 + 0.5) / 5, rtol=1e-15)
  assert math.isnan(best_of_n.order_accuracy(proxy, np.zeros((2, 3))))


def test_the_fit_finds_the_coefficients_that_made_the_curve():
  ns = [1, 2, 8, 32, 128]
  d = np.sqrt(best_of_n.kl_bound(np.array(ns)))
  # Two prompts around α = 1.5, β = 0.4, each with an offset of its own, which the fit leaves out.
  per_prompt = np.stack([3 + d * (1.0 - 0.2 * d), -7 + d * (2.0 - 0.6 * d)])
  found = best_of_n.fit(per_prompt, ns)
  np.testing.assert_allclose([found.alpha, found.beta, found.rms_error], [1.5, 0.4, 0], rtol=1e-9, atol=1e-9)
  # Two prompts drawn out of two are one twice, in a quarter of cases each.
  np.testing.assert_allclose([found.alpha_interval, found.beta_interval], [(1, 2), (0.2, 0.6)], rtol=1e-9)
  np.testing.assert_allclose(found(np.array([0, 2.0])), [0, 2 * (1.5 - 0.8)], rtol=1e-9)


def test_the_fit_is_least_squares_over_all_n():
  ns = [1, 2, 4, 16]
  values = np.random.default_rng(2).normal(size=(1, 4))
  d = np.sqrt(best_of_n.kl_bound(np.array(ns)))
  (a, b), residual, *_ = np.linalg.lstsq(np.stack([d, d**2], axis=1), values[0] - values[0, 0], rcond=None)
  found = best_of_n.fit(values, ns)
  expected = [a, -b, math.sqrt(residual[0] / 4)]
  np.testing.assert_allclose([found.alpha, found.beta, found.rms_error], expected, rtol=1e-9)


def test_the_curve_is_the_mean_over_prompts_with_the_bootstrap_interval_of_prompts():
  per_prompt = np.random.default_rng(3).normal(size=(40, 2))
  found = best_of_n.curve(per_prompt, seed=5)
  for n in range(2):
    expected = metrics.estimate(per_prompt[:, n], seed=5)
    got = [found.mean[n], found.low[n], found.high[n]]
    np.testing.assert_allclose(got, [expected.mean, expected.low, expected.high], rtol=1e-12)


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: best_of_n.expected_best(np.ones((2, 3)), np.ones((2, 4)), [1]), r"shape \(2, 3\), values \(2, 4\)"),
    (lambda: best_of_n.expected_best(np.ones((2, 3)), np.ones((2, 3)), [4]), "n is 4, expected 1 to the 3 samples"),
    (lambda: best_of_n.expected_best(np.full((1, 2), np.nan), np.ones((1, 2)), [1]), "not finite"),
    (lambda: best_of_n.fit(np.ones((2, 2)), [1, 2]), r"over n = \(1, 2\)"),
    (lambda: best_of_n.best_of_n([group_of([0, 1])], [np.ones(2)], 3), "n is 3, prompt 0 has 2 answers with 2 scores"),
    (lambda: best_of_n.best_of_n([group_of([0, 1])], [np.ones(1)], 1), "2 answers with 1 scores"),
    (lambda: best_of_n.best_of_n([group_of([0, 1])], [np.array([0, np.inf])], 2), "not finite"),
    (lambda: best_of_n.best_of_n([group_of([0, 1])], [], 1), "1 groups with 0 arrays"),
  ],
)
def test_bad_input_is_refused(call, message):
  with pytest.raises(InputError, match=message):
    call()
