import collections
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posttrain_jax.evaluation import diversity
from posttrain_jax.types import InputError

ANSWERS = [list("abab"), list("abc"), list("d")]
some_answers = st.lists(st.lists(st.sampled_from("abcd"), max_size=6), min_size=2, max_size=5)


def test_distinct_n_by_hand():
  # Unigrams: 8, distinct a b c d. Bigrams: ab ba ab | ab bc, distinct ab ba bc. Trigrams: aba bab | abc.
  assert [diversity.distinct_n(ANSWERS, n) for n in (1, 2, 3)] == [4 / 8, 3 / 5, 1.0]
  assert math.isnan(diversity.distinct_n(ANSWERS, 5))


def test_mean_distinct_n_by_hand():
  # Within answers: unigrams 2/4, 3/3, 1/1; bigrams 2/3, 2/2, and an answer without any.
  np.testing.assert_allclose(diversity.mean_distinct_n(ANSWERS, 1), 2.5 / 3, rtol=1e-15)
  np.testing.assert_allclose(diversity.mean_distinct_n(ANSWERS, 2), (2 / 3 + 1) / 2, rtol=1e-15)
  assert math.isnan(diversity.mean_distinct_n(ANSWERS, 5))


def test_n_grams_do_not_run_from_one_answer_into_the_next():
  assert math.isnan(diversity.distinct_n([[1], [2], [3]], 2))


def test_ids_may_be_arrays():
  answers = [np.array([1, 2, 1, 2]), np.array([1, 2, 3]), np.array([4])]
  assert diversity.distinct_n(answers, 2) == 3 / 5
  assert diversity.self_bleu(answers) == diversity.self_bleu(ANSWERS)


def test_expectation_adjusted_distinct_by_hand():
  # 4 distinct among 8 unigrams of 5: 5 (1 − .8⁸). 3 distinct among 5 bigrams of 25: 25 (1 − (24/25)⁵).
  ead = diversity.expectation_adjusted_distinct
  np.testing.assert_allclose(ead(ANSWERS, vocabulary=5), 4 / (5 * (1 - 0.8**8)), rtol=1e-14)
  np.testing.assert_allclose(ead(ANSWERS, vocabulary=5, n=2), 3 / (25 * (1 - 0.96**5)), rtol=1e-14)
  assert ead([["a", "a"]], vocabulary=1) == 1.0
  assert math.isnan(ead(ANSWERS, vocabulary=5, n=5))


@pytest.mark.parametrize("length", [20, 2000])
def test_expectation_adjusted_distinct_of_uniform_noise_is_1_at_any_length(length):
  noise = np.random.default_rng(0).integers(50, size=(400, length))
  ead = np.mean([diversity.expectation_adjusted_distinct([row], vocabulary=50) for row in noise])
  np.testing.assert_allclose(ead, 1, atol=0.01)  # a standard error of .004 at 20 tokens
  assert (diversity.distinct_n(noise, 1) < 0.01) == (length > 19)


def test_expectation_adjusted_distinct_keeps_its_digits_for_large_vocabularies():
  # Of V = 1e12 bigrams hardly any pair should coincide.
  ead = diversity.expectation_adjusted_distinct([list(range(1001))], vocabulary=1_000_000, n=2)
  np.testing.assert_allclose(ead, 1 + 999 / 2e12, rtol=1e-12)


def test_self_bleu_of_copies_is_1_and_of_strangers_0():
  assert diversity.self_bleu([list("abcde")] * 3) == 1.0
  assert diversity.self_bleu([list("abcd"), list("efgh"), list("ijkl")]) == 0.0


def test_self_bleu_by_hand():
  # x = a b c d and y = a b c e e e. Matches of x: 3 of 4, 2 of 3, 1 of 2, 0 of 1; of y: 3 of 6, 2 of 5, 1 of 4, 0 of 3.
  answers = [list("abcd"), list("abceee")]
  x = math.exp(1 - 6 / 4) * (3 / 4 * 2 / 3) ** (1 / 2)  # shorter than y: brevity penalty
  y = (3 / 6 * 2 / 5) ** (1 / 2)
  np.testing.assert_allclose(diversity.self_bleu(answers, max_n=2), (x + y) / 2, rtol=1e-14)
  x = math.exp(1 - 6 / 4) * (3 / 4 * 2 / 3 * 1 / 2 * 0.1 / 1) ** (1 / 4)
  y = (3 / 6 * 2 / 5 * 1 / 4 * 0.1 / 3) ** (1 / 4)
  np.testing.assert_allclose(diversity.self_bleu(answers), (x + y) / 2, rtol=1e-14)
  assert diversity.self_bleu(answers, smoothing=0) == 0


def test_self_bleu_counts_a_repeated_word_only_as_often_as_another_answer_has_it():
  # a a a a: clipped to the 2 of a a b, of which 2 of 3 match in turn; a a b is shorter.
  answers = [list("aaaa"), list("aab")]
  expected = (2 / 4 + math.exp(1 - 4 / 3) * 2 / 3) / 2
  np.testing.assert_allclose(diversity.self_bleu(answers, max_n=1), expected, rtol=1e-14)


def test_self_bleu_of_short_answers():
  # One token has no bigram: smoothing / 1.
  np.testing.assert_allclose(diversity.self_bleu([["a"], ["a"]], max_n=2), math.sqrt(0.1), rtol=1e-14)
  assert diversity.self_bleu([[], []]) == 0.0


def literal_self_bleu(answers, max_n, smoothing):
  """Computes self-BLEU by Papineni's definition, answer against answer."""
  total = 0.0
  for i, answer in enumerate(answers):
    others = answers[:i] + answers[i + 1 :]
    product = 1.0
    for n in range(1, max_n + 1):
      counts, *theirs = (
        collections.Counter(tuple(x[j : j + n]) for j in range(len(x) - n + 1)) for x in [answer, *others]
      )
      matched = sum(min(k, max(other[gram] for other in theirs)) for gram, k in counts.items())
      if matched == 0 and n == 1:
        product = 0.0
      product *= (matched or smoothing) / max(counts.total(), 1)
    closest = sorted(map(len, others), key=lambda length: (abs(length - len(answer)), length))[0]
    penalty = 1.0 if len(answer) >= closest else math.exp(1 - closest / max(len(answer), 1))
    total += penalty * product ** (1 / max_n)
  return total / len(answers)


@given(some_answers, st.integers(1, 4), st.sampled_from([0.0, 0.1]))
def test_self_bleu_is_its_definition(answers, max_n, smoothing):
  expected = literal_self_bleu(answers, max_n, smoothing)
  np.testing.assert_allclose(diversity.self_bleu(answers, max_n=max_n, smoothing=smoothing), expected, rtol=1e-12)


@given(some_answers)
def test_the_order_of_answers_does_not_matter(answers):
  np.testing.assert_allclose(diversity.self_bleu(answers[::-1]), diversity.self_bleu(answers), rtol=1e-12)


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: diversity.distinct_n(["two words"], 1), r"answers\[0\] is text"),
    (lambda: diversity.distinct_n(ANSWERS, 0), "n is 0"),
    (lambda: diversity.self_bleu(ANSWERS[:1]), "1 answers"),
    (lambda: diversity.self_bleu(ANSWERS, max_n=0), "max_n is 0"),
    (lambda: diversity.expectation_adjusted_distinct(ANSWERS, vocabulary=3), "the 4 different tokens"),
  ],
)
def test_bad_input_is_refused(call, message):
  with pytest.raises(InputError, match=message):
    call()
