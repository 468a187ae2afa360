import functools

import jax
import jax.numpy as jnp
import numpy as np

from posttrain_jax.losses import policy
from tests.losses.policy_example import example

# The numbers are arguments: one compilation a shape.
clip_cov, kl_cov, clipped_surrogate = (jax.jit(f) for f in (policy.clip_cov, policy.kl_cov, policy.clipped_surrogate))

# Means of logprobs and advantages −2 and 0; covariances 2, −1, 0, 0, 3.
LEARNER = np.array([[-1.0, -1, -2, -2, -4]], np.float32)
ADVANTAGES = np.array([[2.0, -1, 0.5, 0, -1.5]], np.float32)
ONES = np.ones((1, 5), np.float32)


def held(call, learner, advantages, mask):
  """Marks the tokens whose loss differs from the plain surrogate's. Ratios are e^.1."""
  return np.asarray(call(learner, learner - 0.1, advantages, mask)) != np.asarray(
    clipped_surrogate(learner, learner - 0.1, advantages, mask)
  )


def covariance(learner, advantages):
  return (learner - learner.mean()) * (advantages - advantages.mean())


def test_the_example_has_the_covariances_it_says():
  np.testing.assert_allclose(covariance(LEARNER, ADVANTAGES), [[2, -1, 0, 0, 3]], atol=1e-6)


def test_clip_cov_by_hand():
  call = functools.partial(clip_cov, cov_low=0.5, cov_high=5.0)

  def chosen(**options):
    return held(functools.partial(call, **options), LEARNER, ADVANTAGES, ONES)[0].nonzero()[0].tolist()

  assert chosen(share=1.0) == [0, 4]  # two are in the band
  assert chosen(share=0.2) == [4]  # one of five: the larger
  assert chosen(share=1e-6) == [4]  # never less than one
  assert chosen(share=0.2, cov_high=3.0) == [0]  # the band is open
  assert chosen(share=1.0, cov_low=3.0) == []
  loss, gradient = jax.value_and_grad(lambda x: jnp.sum(call(x, LEARNER, ADVANTAGES, ONES, share=0.2)))(LEARNER)
  np.testing.assert_allclose(loss, -np.sum(ADVANTAGES[0, :4]), rtol=1e-6)
  np.testing.assert_allclose(gradient, [[-2, 1, -0.5, 0, 0]], rtol=1e-6)


def test_clip_cov_does_not_choose_what_the_ratio_clip_holds():
  # The last token has a negative advantage and a ratio under 0.8, so the next best is taken.
  old = LEARNER + np.array([[0, 0, 0, 0, 1.0]], np.float32)
  loss = clip_cov(LEARNER, old, ADVANTAGES, ONES, share=0.2, cov_low=0.5)
  np.testing.assert_allclose(loss, [[0, 1, -0.5, 0, 0.8 * 1.5]], rtol=1e-6)
  # A dual clip holds it above, too.
  old = LEARNER - np.array([[0, 0, 0, 0, 2.0]], np.float32)
  loss = clip_cov(LEARNER, old, ADVANTAGES, ONES, share=0.2, cov_low=0.5, dual_clip=3.0)
  np.testing.assert_allclose(loss, [[0, 1, -0.5, 0, 3 * 1.5]], rtol=1e-6)


def test_clip_cov_with_a_key_draws_uniformly_from_the_band():
  call = functools.partial(clip_cov, share=0.2, cov_low=0.5)
  drawn = np.stack(
    [np.asarray(call(LEARNER, LEARNER, ADVANTAGES, ONES, key=jax.random.key(seed)))[0] == 0 for seed in range(200)]
  )
  drawn[:, 3] = False  # its advantage, and so its loss, is 0
  np.testing.assert_array_equal(drawn.sum(axis=1), 1)
  counts = drawn.sum(axis=0)
  assert counts[0] + counts[4] == 200 and 70 < counts[0] < 130  # 100 ± 7


def test_kl_cov_by_hand():
  old = LEARNER - np.array([[0.1, 0.1, 0.1, 0.1, -0.2]], np.float32)
  ratio = np.exp(LEARNER - old)

  def loss(learner, **options):
    return kl_cov(learner, old, ADVANTAGES, ONES, penalty=3.0, **options)

  plain = -ratio * ADVANTAGES
  np.testing.assert_allclose(loss(LEARNER, share=0.2), plain + [[0, 0, 0, 0, 0.6]], rtol=1e-5)
  np.testing.assert_allclose(loss(LEARNER, share=0.4), plain + [[0.3, 0, 0, 0, 0.6]], rtol=1e-5)
  gradient = jax.grad(lambda x: jnp.sum(loss(x, share=0.4)))(LEARNER)
  np.testing.assert_allclose(gradient, plain + [[3, 0, 0, 0, -3]], rtol=1e-5)  # the penalty pulls back to ρ = 1


def test_they_hold_exactly_as_many_tokens_as_asked_for_the_largest_first():
  learner, _, advantages, mask = example((8, 16), seed=1)
  counted = mask.sum()
  descending = np.sort(covariance(learner[mask], advantages[mask]))[::-1]
  for share in (0.01, 0.1, 0.37):
    count = max(int(share * counted), 1)
    for call in (functools.partial(clip_cov, cov_low=-1e9, cov_high=1e9, clip_high=0.2), kl_cov):
      where = held(functools.partial(call, share=share), learner, advantages, mask)[mask]
      assert where.sum() == count
      np.testing.assert_allclose(
        np.sort(covariance(learner[mask], advantages[mask])[where])[::-1], descending[:count], rtol=1e-5
      )


def test_equal_covariances_do_not_make_it_more():
  equal = np.ones((2, 5), np.float32)  # all covariances 0
  for call in (functools.partial(clip_cov, cov_low=-1.0), kl_cov):
    assert held(functools.partial(call, share=0.3), -equal, equal, equal).sum() == 3


def test_a_mask_is_a_slice_of_the_batch():
  learner, old, advantages, mask = example((4, 6), seed=2)
  mask = mask & (np.arange(6) != 2)
  for call in (functools.partial(clip_cov, cov_low=0.0), kl_cov):
    call = functools.partial(call, share=0.2)
    whole = np.asarray(call(learner, old, advantages, mask))
    row = (x[mask][None] for x in (learner, old, advantages))  # every counted token in one row
    np.testing.assert_allclose(whole[mask], call(*row, np.ones((1, mask.sum())))[0], rtol=1e-5)
