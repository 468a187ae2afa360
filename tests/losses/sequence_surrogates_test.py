import math

import jax
import jax.numpy as jnp
import numpy as np

from posttrain_jax.losses import aggregate, policy
from tests.losses.policy_example import example


def test_sequence_ratio_by_hand():
  # log ratios .2 and .4 (a hole between them): s = exp(.3); d s / d logprob = s / 2 each; loss −s A per token.
  old = np.zeros((1, 3), np.float32)
  learner = np.array([[0.2, 9.0, 0.4]], np.float32)
  advantages, mask = np.full((1, 1), 2.0, np.float32), np.array([[1, 0, 1]])

  def loss(learner):
    return aggregate.sequence_mean(
      policy.sequence_clipped_surrogate(learner, old, advantages, mask, clip_low=0.5, clip_high=0.5), mask
    )

  value, gradient = jax.value_and_grad(loss)(learner)
  np.testing.assert_allclose(value, -2 * math.exp(0.3), rtol=1e-6)
  np.testing.assert_allclose(gradient, [[-math.exp(0.3), 0, -math.exp(0.3)]], rtol=1e-6)


def test_sequence_and_token_ratio_agree_on_answers_of_one_token():
  learner, old, advantages, _ = example((5, 1))
  mask = np.ones((5, 1))
  np.testing.assert_allclose(
    policy.sequence_clipped_surrogate(learner, old, advantages, mask, clip_high=0.28),
    policy.clipped_surrogate(learner, old, advantages, mask, clip_high=0.28),
  )


def test_geometric_mean_by_hand():
  # A > 0: log ratios 1 and −1 become .4 and −1, whose mean is −.3. A < 0: 1 and −.4, mean .3.
  learner, old = np.array([[1.0, 9.0, -1.0]] * 2), np.zeros((2, 3))
  advantages, mask = np.array([[2.0], [-2.0]]), np.array([[1, 0, 1]] * 2)
  loss = policy.geometric_mean_surrogate(learner, old, advantages, mask, clip_low=0.4, clip_high=0.4)
  up, down = -2 * math.exp(-0.3), 2 * math.exp(0.3)
  np.testing.assert_allclose(loss, [[up, 0, up], [down, 0, down]], rtol=1e-6)

  def mean(x):
    return aggregate.sequence_mean(policy.geometric_mean_surrogate(x, old, advantages, mask), mask)

  # Half of each of two answers; the clipped token has no gradient, the other half of the answer's.
  np.testing.assert_allclose(jax.grad(mean)(learner), [[0, 0, up / 4], [down / 4, 0, 0]], rtol=1e-5)


def test_geometric_mean_without_clip_is_gspo_without_clip():
  learner, old, advantages, mask = example()
  np.testing.assert_allclose(
    policy.geometric_mean_surrogate(learner, old, advantages, mask, clip_low=jnp.inf, clip_high=jnp.inf),
    policy.sequence_clipped_surrogate(learner, old, advantages, mask, clip_low=1.0, clip_high=jnp.inf),
    rtol=1e-6,
  )


def test_an_outlier_weighs_less_in_the_geometric_mean():
  # One of ten tokens is e⁵ times likelier: GSPO's ratio is e^.5, the arithmetic mean 15.7; clipped to e^.4 it is e^.04.
  learner = np.zeros((1, 10))
  learner[0, 3] = 5.0
  loss = policy.geometric_mean_surrogate(learner, 0 * learner, np.ones((1, 1)), np.ones((1, 10)))
  np.testing.assert_allclose(loss, np.full((1, 10), -math.exp(0.04)), rtol=1e-6)
