import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.losses import preference
from tests.losses.preference_example import assert_by_hand, example, log_sigmoid, sigmoid


def test_by_hand_with_margin_and_centering(x64):
  assert_by_hand("bradley_terry", -log_sigmoid(3.7) + 0.01 * 36)


def test_bradley_terry_by_hand():
  chosen, rejected = np.float32([1, 0]), np.float32([-1, 3])
  np.testing.assert_allclose(
    preference.bradley_terry(chosen, rejected), [math.log1p(math.exp(-2)), math.log1p(math.exp(3))], rtol=1e-6
  )
  loss = preference.bradley_terry(chosen, rejected, margin=np.float32([1, 2 / 3]), centering=0.01)
  np.testing.assert_allclose(loss, [math.log1p(math.exp(-1)), math.log1p(math.exp(11 / 3)) + 0.09], rtol=1e-6)


def test_margins_have_no_gradient():
  chosen, rejected, *_ = example()
  assert jax.grad(lambda m: jnp.sum(preference.bradley_terry(chosen, rejected, margin=m)))(1.0) == 0


def ranking(ranks):
  """Computes preferred [N, K, K] of ranks [N, K]; lower is better, −1 is padding."""
  ranks = np.asarray(ranks)
  present = (ranks[:, :, None] >= 0) & (ranks[:, None, :] >= 0)
  return present & (ranks[:, :, None] < ranks[:, None, :])


def test_ranked_bradley_terry_averages_over_a_prompts_pairs():
  # Prompt 0: 2 > 0 > −1, three pairs that differ by 2, 3 and 1. Prompt 1: a tie, and one padded answer: one pair fewer.
  rewards = np.float32([[2, 0, -1], [1, 1, np.nan]])
  loss = preference.ranked_bradley_terry(rewards, ranking([[0, 1, 2], [0, 0, -1]]))
  np.testing.assert_allclose(loss, [np.mean([-log_sigmoid(x) for x in (2, 3, 1)]), 0], rtol=1e-6)
  loss = preference.ranked_bradley_terry(rewards, ranking([[0, 1, 1], [0, 1, -1]]))
  np.testing.assert_allclose(loss, [np.mean([-log_sigmoid(x) for x in (2, 3)]), math.log(2)], rtol=1e-6)


def test_ranked_bradley_terry_of_two_answers_is_bradley_terry():
  rng = np.random.default_rng(0)
  rewards, margin = rng.normal(size=(6, 2)).astype(np.float32), rng.uniform(size=6).astype(np.float32)
  first_wins = np.array([True, False] * 3)
  preferred = np.zeros((6, 2, 2), bool)
  preferred[:, 0, 1], preferred[:, 1, 0] = first_wins, ~first_wins
  margins = np.where(preferred, margin[:, None, None], np.nan).astype(np.float32)  # only those of pairs are read

  def ranked(rewards):
    return jnp.sum(preference.ranked_bradley_terry(rewards, preferred, margin=margins, centering=0.01))

  def pairwise(rewards):
    chosen = jnp.where(first_wins, rewards[:, 0], rewards[:, 1])
    rejected = jnp.where(first_wins, rewards[:, 1], rewards[:, 0])
    return jnp.sum(preference.bradley_terry(chosen, rejected, margin=margin, centering=0.01))

  for ours, expected in zip(*(jax.tree.leaves(jax.value_and_grad(f)(rewards)) for f in (ranked, pairwise))):
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.parametrize("centering", [0.0, 0.1])
def test_answers_in_no_pair_have_no_gradient_whatever_they_hold(centering):
  rewards = jnp.array([[jnp.nan, jnp.inf, 3.0], [1.0, 2.0, jnp.nan], [0.0, 0.0, 0.0]])
  preferred = ranking([[-1, -1, 0], [0, 1, -1], [0, 0, 0]])
  losses = functools.partial(preference.ranked_bradley_terry, preferred=preferred, centering=centering)
  gradient = jax.grad(lambda r: jnp.sum(losses(r)))(rewards)
  np.testing.assert_array_equal(losses(rewards)[jnp.array([0, 2])], [0, 0])
  np.testing.assert_array_equal(gradient[jnp.array([0, 2])], np.zeros((2, 3)))
  slope = -sigmoid(1)  # of −log σ(1 − 2)
  np.testing.assert_allclose(gradient[1], [slope + 6 * centering, -slope + 6 * centering, 0], rtol=1e-6)


def test_a_soft_target_by_hand():
  # d = 2 with p = .75; d = −3 with p = .5, where both orders weigh the same.
  loss = preference.bradley_terry(np.float32([1, 0]), np.float32([-1, 3]), probability=np.float32([0.75, 0.5]))
  expected = [0.75 * math.log1p(math.exp(-2)) + 0.25 * math.log1p(math.exp(2))]
  expected.append(0.5 * math.log1p(math.exp(3)) + 0.5 * math.log1p(math.exp(-3)))
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_a_soft_target_of_one_is_the_certain_loss_to_the_bit():
  chosen, rejected = np.float32([1, 0, -4]), np.float32([-1, 3, 9])
  options = dict(margin=np.float32([1, 0.5, 0]), centering=0.01)
  np.testing.assert_array_equal(
    preference.bradley_terry(chosen, rejected, probability=np.ones(3, np.float32), **options),
    preference.bradley_terry(chosen, rejected, **options),
  )


@pytest.mark.parametrize("probability", [0.5, 0.6, 0.9])
def test_a_soft_target_is_least_where_the_model_says_so(probability):
  def loss(d):
    return preference.bradley_terry(d[None], jnp.zeros(1), probability=probability)[0]

  logit = math.log(probability / (1 - probability))
  np.testing.assert_allclose(jax.grad(loss)(jnp.float32(logit)), 0, atol=1e-6)
  np.testing.assert_allclose(jax.grad(loss)(jnp.float32(logit + 1)), sigmoid(logit + 1) - probability, rtol=1e-4)


def test_soft_targets_of_rankings_are_read_where_one_answer_beats_another():
  rewards = np.float32([[2, 0, -1]])
  preferred = ranking([[0, 1, -1]])
  soft = np.where(preferred, 0.8, np.nan).astype(np.float32)
  loss = preference.ranked_bradley_terry(rewards, preferred, probability=soft)
  np.testing.assert_allclose(loss, [-0.8 * log_sigmoid(2) - 0.2 * log_sigmoid(-2)], rtol=1e-6)
