import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.losses import policy
from tests.losses.policy_example import example


def test_clipped_surrogate_by_hand():
  # One token a column: ratio, advantage, −min(ρA, clip(ρ, .8, 1.28) A):
  #   1.1, +2: inside: −2.2.             1.5, +2: clipped above: −2.56.     .5, +2: pessimistic, unclipped: −1.
  #   1.1, −2: inside: 2.2.              1.5, −2: unclipped: 3.             .5, −2: clipped below: 1.6.
  ratio = np.array([[1.1, 1.5, 0.5, 1.1, 1.5, 0.5]], np.float32)
  advantages = np.array([[2, 2, 2, -2, -2, -2]], np.float32)
  old = np.full((1, 6), -1.0, np.float32)
  loss = policy.clipped_surrogate(old + np.log(ratio), old, advantages, np.ones((1, 6)), clip_low=0.2, clip_high=0.28)
  np.testing.assert_allclose(loss, [[-2.2, -2.56, -1.0, 2.2, 3.0, 1.6]], rtol=1e-6)


def test_dual_clip_bounds_the_loss_of_negative_advantages_only():
  ratio = np.array([[5.0, 5.0, 2.0, 0.5]], np.float32)
  advantages = np.array([[-1.0, 1.0, -1.0, 1.0]], np.float32)
  old = np.zeros((1, 4), np.float32)
  call = functools.partial(policy.clipped_surrogate, np.log(ratio), old, advantages, np.ones((1, 4)))
  np.testing.assert_allclose(call(), [[5.0, -1.2, 2.0, -0.5]], rtol=1e-6)
  np.testing.assert_allclose(call(dual_clip=3.0), [[3.0, -1.2, 2.0, -0.5]], rtol=1e-6)


@pytest.mark.parametrize("dual_clip", [None, 1.5])
def test_clipped_surrogate_is_the_papers_minimum(dual_clip, x64):
  learner, old, advantages, _ = (np.asarray(x, np.float64) for x in example((50, 8)))

  def literal(learner):
    ratio = jnp.exp(learner - old)
    loss = -jnp.minimum(ratio * advantages, jnp.clip(ratio, 0.7, 1.4) * advantages)
    return loss if dual_clip is None else jnp.where(advantages < 0, jnp.minimum(loss, -dual_clip * advantages), loss)

  def ours(learner):
    mask = np.ones(old.shape)
    return policy.clipped_surrogate(learner, old, advantages, mask, clip_low=0.3, clip_high=0.4, dual_clip=dual_clip)

  np.testing.assert_allclose(ours(learner), literal(learner), atol=1e-14)
  gradients = (jax.grad(lambda x, f=f: jnp.sum(f(x)))(learner) for f in (ours, literal))
  np.testing.assert_allclose(*gradients, atol=1e-14)


def test_bfloat16_logprobs_are_subtracted_in_float32():
  # Both are exact in bfloat16; their difference, 1 − 2⁻¹⁰, would be rounded to 1.
  learner, old = (jnp.full((1, 1), x, jnp.bfloat16) for x in (-(2.0**-10), -1.0))
  loss = policy.clipped_surrogate(learner, old, -jnp.ones((1, 1), jnp.bfloat16), jnp.ones((1, 1), bool))
  assert loss.dtype == jnp.float32
  np.testing.assert_allclose(loss, [[math.exp(1 - 2**-10)]], rtol=1e-6)


def test_a_ratio_that_overflows_is_clipped_with_gradient_zero():
  loss, gradient = jax.value_and_grad(
    lambda x: jnp.sum(policy.clipped_surrogate(x, jnp.full((1, 1), -500.0), jnp.ones((1, 1)), jnp.ones((1, 1))))
  )(jnp.zeros((1, 1)))
  np.testing.assert_allclose(loss, -1.2, rtol=1e-6)
  np.testing.assert_array_equal(gradient, [[0.0]])


def test_cispo_keeps_the_gradient_of_clipped_tokens():
  # ratio 10 is clipped to 1 + 4; the gradient is −weight · A for logprob, whatever the clip.
  old, learner = jnp.full((1, 2), -3.0), jnp.array([[-3.0 + math.log(10), -3.0 + math.log(0.1)]])
  call = functools.partial(policy.clipped_importance_weight, advantages=jnp.full((1, 2), 2.0), mask=jnp.ones((1, 2)))
  gradient = jax.grad(lambda x: jnp.sum(call(x, old, clip_high=4.0)))(learner)
  np.testing.assert_allclose(gradient, [[-10.0, -0.2]], rtol=1e-5)
  gradient = jax.grad(lambda x: jnp.sum(call(x, old, clip_low=0.2, clip_high=4.0)))(learner)
  np.testing.assert_allclose(gradient, [[-10.0, -1.6]], rtol=1e-5)


def test_soft_gate_by_hand():
  # τ = 2: ρ = 1, A = 1: −(4/2) σ(0) = −1. ρ = 2: −2 σ(2). A = −1, τ = 4: ρ = 1/2: σ(−2).
  learner = np.log(np.array([[1.0, 2.0, 0.5]]))
  loss = policy.soft_gated_surrogate(
    learner, np.zeros((1, 3)), np.array([[1.0, 1.0, -1.0]]), np.ones((1, 3)), tau_pos=2.0, tau_neg=4.0
  )

  def sigmoid(x):
    return 1 / (1 + math.exp(-x))

  np.testing.assert_allclose(loss, [[-1.0, -2 * sigmoid(2), sigmoid(-2)]], rtol=1e-6)


def test_soft_gate_fades_on_both_sides_and_faster_at_a_higher_temperature():
  ratio = np.array([[0.1, 0.5, 1.0, 2.0, 10.0]], np.float32)
  shape = np.ones_like(ratio)

  def weight(sign):  # of the gradient for ρ, not for log ρ
    loss = functools.partial(policy.soft_gated_surrogate, old_logprobs=0 * shape, advantages=sign * shape, mask=shape)
    gradient = jax.grad(lambda x: jnp.sum(loss(x, tau_pos=1.0, tau_neg=3.0)))(np.log(ratio))
    return -sign * np.asarray(gradient / ratio)[0]

  for weights in (weight(1), weight(-1)):
    np.testing.assert_allclose(weights[2], 1.0, rtol=1e-6)
    assert np.all(np.diff(weights[:3]) > 0) and np.all(np.diff(weights[2:]) < 0)
  assert np.all((weight(-1) < weight(1))[[0, 1, 3, 4]])


def test_reinforce_is_the_weighted_likelihood():
  learner, _, advantages, mask = example()
  old = np.full_like(learner, np.nan)  # plays no role
  value, gradient = jax.value_and_grad(lambda x: jnp.sum(policy.reinforce(x, old, advantages, mask)))(learner)
  np.testing.assert_allclose(value, -np.sum((learner * advantages)[mask]), rtol=1e-5)
  np.testing.assert_array_equal(gradient, np.where(mask, -advantages, 0))


def test_reinforce_is_cispo_with_a_weight_of_one():
  learner, old, advantages, mask = example()
  weightless = policy.clipped_importance_weight(learner, old, advantages, mask, clip_low=0.0, clip_high=0.0)
  np.testing.assert_allclose(policy.reinforce(learner, old, advantages, mask), weightless, rtol=1e-6)
