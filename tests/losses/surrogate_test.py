"""Tests which surrogates declare that a token's loss depends on that token alone, and that this is true."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.learner.objective import surrogates
from posttrain_jax.losses import policy
from posttrain_jax.losses.surrogate import is_per_token, per_token_surrogate
from tests.losses.policy_example import example

OPTIONS = {
  "clipped_importance_weight": dict(clip_high=0.3),
  "clip_cov": dict(share=0.2, cov_low=0.1),
  "kl_cov": dict(share=0.2),
}


@pytest.mark.parametrize("name", surrogates())
def test_only_marked_surrogates_have_a_diagonal_jacobian(name):
  surrogate = functools.partial(getattr(policy, name), **OPTIONS.get(name, {}))
  learner, old, advantages, _ = example((3, 4), spread=0.05)

  def losses(logprobs, advantages):
    return surrogate(logprobs, old, advantages, np.ones((3, 4))).ravel()

  # All tokens but one change: does the loss of that one?
  before, rng = losses(learner, advantages), np.random.default_rng(1)
  moved = []
  for t in range(12):
    others = np.arange(12).reshape(3, 4) != t
    changed = [np.where(others, x + 3 * rng.normal(size=x.shape), x).astype(np.float32) for x in (learner, advantages)]
    moved.append(abs(losses(*changed)[t] - before[t]))
  assert is_per_token(getattr(policy, name)) == (max(moved) == 0)


def test_a_mark_is_the_functions_own():
  assert not is_per_token(policy.sequence_clipped_surrogate) and not is_per_token(policy.clip_cov)

  @per_token_surrogate
  def one(learner_logprobs, old_logprobs, advantages, mask):
    return jnp.where(mask, -advantages * learner_logprobs, 0)

  @functools.wraps(one)
  def mixed(*arrays):
    return one(*arrays).mean(axis=-1, keepdims=True)

  assert is_per_token(one) and not is_per_token(mixed)
  assert one(*(jnp.ones((1, 2)),) * 4).tolist() == [[-1, -1]] and jax.jit(one) is not one
