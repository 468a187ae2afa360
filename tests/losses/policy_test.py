"""Tests the properties of all surrogates of `losses.policy`.

What each surrogate computes is tested in the file of its own name.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from posttrain_jax.losses import aggregate, policy
from tests.losses.policy_example import example

ROWWISE = {
  "clipped": functools.partial(policy.clipped_surrogate, clip_low=0.2, clip_high=0.28),
  "dual": functools.partial(policy.clipped_surrogate, clip_low=0.2, clip_high=0.28, dual_clip=3.0),
  "sequence": functools.partial(policy.sequence_clipped_surrogate, clip_low=0.2, clip_high=0.28),
  "geometric": policy.geometric_mean_surrogate,
  "soft": policy.soft_gated_surrogate,
  "cispo": functools.partial(policy.clipped_importance_weight, clip_high=4.0),
  "reinforce": policy.reinforce,
}
# Every row plays a role in the choice of tokens.
SURROGATES = ROWWISE | {
  "clip_cov": functools.partial(policy.clip_cov, share=0.2, cov_low=0.1),
  "kl_cov": functools.partial(policy.kl_cov, share=0.2),
}
each_rowwise = pytest.mark.parametrize("surrogate", ROWWISE.values(), ids=ROWWISE.keys())
each_surrogate = pytest.mark.parametrize("surrogate", SURROGATES.values(), ids=SURROGATES.keys())


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_on_policy_the_gradient_is_minus_the_advantage_over_the_tokens(dtype):
  _, old, advantages, mask = example()
  old = jnp.asarray(old, dtype)

  def loss(learner):
    return aggregate.token_mean(policy.clipped_surrogate(learner, old, advantages, mask), mask)

  value, gradient = jax.value_and_grad(loss)(old)
  expected = np.where(mask, -advantages / mask.sum(), 0)
  assert value.dtype == jnp.float32 and gradient.dtype == dtype
  np.testing.assert_allclose(value, expected.sum(), rtol=1e-5)
  np.testing.assert_allclose(gradient.astype(jnp.float32), expected, rtol=1e-6 if dtype == jnp.float32 else 4e-3)


@each_surrogate
def test_on_policy_every_surrogate_is_reinforce(surrogate):
  _, old, advantages, mask = example()
  if surrogate is SURROGATES["clip_cov"]:  # but for the tokens that it holds
    surrogate = functools.partial(surrogate, cov_low=np.inf)
  gradient = jax.jit(jax.grad(lambda x: jnp.sum(surrogate(x, old, advantages[:, :1], mask))))(old)
  np.testing.assert_allclose(gradient, np.where(mask, -advantages[:, :1], 0), rtol=1e-5)


@each_surrogate
def test_any_ratio_leaves_loss_and_gradient_norm_finite(surrogate):
  log_ratio = np.array([[-1e30, -500, -50, -30, 0, 30, 50, 500, 1e30]] * 2, np.float32)
  advantages = np.array([[1.0], [-1.0]], np.float32)
  zeros, ones = np.zeros_like(log_ratio), np.ones_like(log_ratio)
  call = jax.jit(jax.value_and_grad(lambda learner, old: jnp.sum(surrogate(learner, old, advantages, ones))))
  for learner, old in ((log_ratio, zeros), (zeros, -log_ratio)):
    losses, gradients = call(learner, old)
    assert np.isfinite(losses) and np.isfinite(np.sum(np.square(gradients)))


@each_surrogate
def test_a_batch_without_counted_tokens_is_zero(surrogate):
  nan, mask = np.full((2, 3), np.nan, np.float32), np.zeros((2, 3))

  def loss(learner):
    return aggregate.sequence_mean(surrogate(learner, nan, nan, mask), mask)

  value, gradient = jax.jit(jax.value_and_grad(loss))(nan)
  assert value == 0
  np.testing.assert_array_equal(gradient, np.zeros((2, 3)))


@each_surrogate
def test_masked_positions_are_zero_and_get_no_gradient_whatever_they_hold(surrogate):
  learner, old, advantages, mask = example()
  gradient_of = jax.jit(jax.grad(lambda *x: jnp.sum(surrogate(*x))))
  surrogate = jax.jit(surrogate)
  expected, expected_gradient = (f(learner, old, advantages, mask) for f in (surrogate, gradient_of))
  np.testing.assert_array_equal(expected[~mask], 0)
  for bad in (np.nan, np.inf, -np.inf, 1e38):
    learner_bad, old_bad, advantages_bad = (np.where(mask, x, bad) for x in (learner, old, advantages))
    for arrays in [
      (learner_bad, old_bad, advantages_bad),
      (learner_bad, old, advantages),
      (learner, old_bad, advantages),
      (learner, old, advantages_bad),
    ]:
      np.testing.assert_array_equal(surrogate(*arrays, mask), expected)
      np.testing.assert_array_equal(gradient_of(*arrays, mask), expected_gradient)


@each_rowwise
def test_a_mask_is_a_slice(surrogate):
  learner, old, advantages, _ = example((4, 6))
  surrogate = jax.jit(surrogate)  # compiles once a shape, not once an operation and shape
  lengths = [0, 2, 3, 6]
  mask = np.arange(6) < np.array(lengths)[:, None]
  whole = surrogate(learner, old, advantages, mask)
  for row, length in enumerate(lengths):
    cut = (slice(row, row + 1), slice(0, length))
    alone = surrogate(learner[cut], old[cut], advantages[cut], mask[cut])
    np.testing.assert_allclose(whole[cut], alone, rtol=1e-6)
  np.testing.assert_allclose(surrogate(learner[1], old[1], advantages[1], mask[1]), whole[1], rtol=1e-6)
  # A hole is as good as a token that never was.
  keep = [0, 1, 3, 5]
  holes = np.isin(np.arange(6), keep)[None].repeat(4, 0)
  np.testing.assert_allclose(
    surrogate(learner, old, advantages, holes)[:, keep],
    surrogate(learner[:, keep], old[:, keep], advantages[:, keep], np.ones((4, 4))),
    rtol=1e-6,
  )


@each_surrogate
def test_jit_masks_of_any_dtype_and_leading_axes(surrogate):
  learner, old, advantages, mask = example()
  expected = surrogate(learner, old, advantages, mask)
  np.testing.assert_allclose(jax.jit(surrogate)(learner, old, advantages, mask), expected, rtol=1e-6)
  for dtype in (jnp.float32, jnp.bfloat16, jnp.int32):
    np.testing.assert_array_equal(surrogate(learner, old, advantages, jnp.asarray(mask, dtype)), expected)
  grouped = surrogate(*(x.reshape(2, 2, 6) for x in (learner, old, advantages, mask)))
  np.testing.assert_array_equal(grouped, expected.reshape(2, 2, 6))


@each_surrogate
def test_gradients(surrogate, x64):
  learner, old, advantages, mask = example(seed=3)
  learner, old, advantages = (np.asarray(x, np.float64) for x in (learner, old, advantages))
  if surrogate is ROWWISE["cispo"]:  # its weight is a constant: differentiate with the weight at 1 + clip_high
    old = learner - 5.0
  check_grads(lambda x: surrogate(x, old, advantages, mask), (learner,), order=1, modes=["rev"], eps=1e-6)


@each_surrogate
def test_old_logprobs_and_advantages_are_constants(surrogate):
  learner, old, advantages, mask = example()
  gradients = jax.grad(lambda *x: jnp.sum(surrogate(learner, *x, mask)), argnums=(0, 1))(old, advantages)
  np.testing.assert_array_equal(gradients, np.zeros((2, 4, 6)))


@each_surrogate
def test_one_advantage_an_answer(surrogate):
  learner, old, advantages, mask = example()
  one = advantages[:, :1]
  np.testing.assert_array_equal(
    surrogate(learner, old, one, mask), surrogate(learner, old, np.broadcast_to(one, mask.shape), mask)
  )
  with pytest.raises(AssertionError):  # [B] would line up with T where B = T
    surrogate(learner, old, advantages[:, 0], mask)
  with pytest.raises(AssertionError):
    surrogate(learner, old[:, :-1], advantages, mask)
