import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from posttrain_jax.losses import aggregate, policy

SURROGATES = {
  "clipped": functools.partial(policy.clipped_surrogate, clip_low=0.2, clip_high=0.28),
  "dual": functools.partial(policy.clipped_surrogate, clip_low=0.2, clip_high=0.28, dual_clip=3.0),
  "sequence": functools.partial(policy.sequence_clipped_surrogate, clip_low=0.2, clip_high=0.28),
  "cispo": functools.partial(policy.clipped_importance_weight, clip_high=4.0),
}
each_surrogate = pytest.mark.parametrize("surrogate", SURROGATES.values(), ids=SURROGATES.keys())


def example(shape=(4, 6), seed=0, spread=0.5):
  """Learner and old logprobs, advantages, and a mask with holes, an empty row and a full row."""
  rng = np.random.default_rng(seed)
  old = -rng.exponential(size=shape).astype(np.float32)
  learner = old + spread * rng.normal(size=shape).astype(np.float32)
  advantages = rng.normal(size=shape).astype(np.float32)
  mask = rng.random(shape) < 0.7
  mask[0], mask[1] = False, True
  return learner, old, advantages, mask


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
    SURROGATES["sequence"](learner, old, advantages, mask), SURROGATES["clipped"](learner, old, advantages, mask)
  )


def test_cispo_keeps_the_gradient_of_clipped_tokens():
  # ratio 10 is clipped to 1 + 4; the gradient is −weight · A for logprob, whatever the clip.
  old, learner = jnp.full((1, 2), -3.0), jnp.array([[-3.0 + math.log(10), -3.0 + math.log(0.1)]])
  call = functools.partial(policy.clipped_importance_weight, advantages=jnp.full((1, 2), 2.0), mask=jnp.ones((1, 2)))
  gradient = jax.grad(lambda x: jnp.sum(call(x, old, clip_high=4.0)))(learner)
  np.testing.assert_allclose(gradient, [[-10.0, -0.2]], rtol=1e-5)
  gradient = jax.grad(lambda x: jnp.sum(call(x, old, clip_low=0.2, clip_high=4.0)))(learner)
  np.testing.assert_allclose(gradient, [[-10.0, -1.6]], rtol=1e-5)


def test_importance_correction_by_hand():
  # log weights log 4, log 1/4 and log 8 (the last one masked): sum 0, mean 0.
  sampler = np.zeros((1, 3), np.float32)
  old, mask = np.log(np.array([[4.0, 0.25, 8.0]], np.float32)), np.array([[1, 1, 0]])
  call = functools.partial(policy.importance_correction, old, sampler, mask)
  np.testing.assert_allclose(call(high=2.0), [[2, 0.25, 0]], rtol=1e-6)
  np.testing.assert_allclose(call(low=0.5, high=2.0), [[2, 0.5, 0]], rtol=1e-6)
  np.testing.assert_allclose(call(mode="mask", high=5.0), [[4, 0.25, 0]], rtol=1e-6)
  np.testing.assert_allclose(call(mode="mask", low=0.5, high=5.0), [[4, 0, 0]], rtol=1e-6)
  np.testing.assert_allclose(call(level="sequence", high=2.0), [[1, 1, 0]], rtol=1e-6)
  # One token of weight 4: the sum is log 4, the mean log 2.
  old = np.log(np.array([[4.0, 1.0, 8.0]], np.float32))
  call = functools.partial(policy.importance_correction, old, sampler, mask, high=10.0)
  np.testing.assert_allclose(call(level="sequence"), [[4, 4, 0]], rtol=1e-6)
  np.testing.assert_allclose(call(level="geometric"), [[2, 2, 0]], rtol=1e-6)


@pytest.mark.parametrize("level", ["token", "sequence", "geometric"])
@pytest.mark.parametrize("mode", ["truncate", "mask"])
def test_importance_correction_is_finite_and_constant(level, mode):
  old, sampler, _, mask = example(spread=300.0)
  old = np.where(mask, old, np.nan)
  call = functools.partial(
    policy.importance_correction, sampler_logprobs=sampler, mask=mask, level=level, mode=mode, low=0.5, high=2.0
  )
  weights = call(old)
  assert np.all(np.isfinite(weights)) and np.all((weights == 0) | ((weights >= 0.5) & (weights <= 2.0)))
  np.testing.assert_array_equal(weights[~mask], 0)
  np.testing.assert_array_equal(jax.grad(lambda x: jnp.sum(call(x)))(old), np.zeros_like(old))


@pytest.mark.parametrize(("option", "value"), [("level", "row"), ("mode", "clip")])
def test_importance_correction_names_a_bad_option(option, value):
  with pytest.raises(ValueError, match=f"{option}: expected .* found '{value}'"):
    policy.importance_correction(np.zeros((1, 1)), np.zeros((1, 1)), np.ones((1, 1)), high=2.0, **{option: value})


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


@each_surrogate
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
  for row in range(4):
    np.testing.assert_allclose(surrogate(learner[row], old[row], advantages[row], mask[row]), expected[row], rtol=1e-6)


@each_surrogate
def test_gradients(surrogate, x64):
  learner, old, advantages, mask = example(seed=3)
  learner, old, advantages = (np.asarray(x, np.float64) for x in (learner, old, advantages))
  if surrogate is SURROGATES["cispo"]:  # its weight is a constant: differentiate with the weight at 1 + clip_high
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
