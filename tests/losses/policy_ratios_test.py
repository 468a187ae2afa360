import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.losses import policy_ratios
from tests.losses.policy_example import example


def test_log_ratio_by_hand():
  learner, old = np.array([[-1.0, -2.0, np.nan]], np.float32), np.array([[-1.5, -1.0, -3.0]], np.float32)
  mask, log_rho, advantages = policy_ratios.log_ratio(
    learner, old, np.array([[2.0]], np.float32), np.array([[1, 1, 0]])
  )
  assert mask.dtype == bool
  np.testing.assert_array_equal(mask, [[True, True, False]])
  np.testing.assert_array_equal(log_rho, [[0.5, -1.0, 0.0]])  # the NaN is masked
  np.testing.assert_array_equal(advantages, [[2.0, 2.0, 0.0]])


def test_log_ratios_of_bfloat16_are_float32():
  # Exact in bfloat16; their difference, 1 − 2⁻¹⁰, would be rounded to 1.
  learner, old = (jnp.full((1, 1), x, jnp.bfloat16) for x in (-(2.0**-10), -1.0))
  _, log_rho, _ = policy_ratios.log_ratio(learner, old, jnp.ones((1, 1)), jnp.ones((1, 1)))
  assert log_rho.dtype == jnp.float32 and log_rho == 1 - 2**-10


def test_only_the_learner_gets_a_gradient():
  learner, old, advantages, mask = example()

  def scalar(*arrays):
    _, log_rho, spread = policy_ratios.log_ratio(*arrays, mask)
    return jnp.sum(log_rho * spread)

  to_learner, to_old, to_advantages = jax.grad(scalar, (0, 1, 2))(learner, old, advantages)
  np.testing.assert_array_equal(to_learner, np.where(mask, advantages, 0))
  assert not to_old.any() and not to_advantages.any()


@pytest.mark.parametrize(
  "shapes", [((2, 3), (2, 2), (2, 3), (2, 3)), ((2, 3), (2, 3), (2,), (2, 3)), ((2, 3), (2, 3), (2, 3), (3,))]
)
def test_shapes_that_do_not_fit_are_refused(shapes):
  with pytest.raises(AssertionError):
    policy_ratios.log_ratio(*map(np.zeros, shapes))


@pytest.mark.parametrize("dual_clip", [None, 3.0])
def test_bounds_by_hand(dual_clip):
  low, high = policy_ratios.pessimistic_bounds(jnp.array([2.0, 0.0, -2.0]), 0.2, 0.28, dual_clip)
  np.testing.assert_allclose(low, [0, 0, 0.8], rtol=1e-6)
  np.testing.assert_allclose(high, [1.28, 1.28, np.inf if dual_clip is None else 3.0], rtol=1e-6)


def test_clipped_exp_by_hand():
  x = jnp.log(jnp.array([0.5, 1.0, 1.5]))
  np.testing.assert_allclose(policy_ratios.clipped_exp(x, 0.8, 1.28), [0.8, 1.0, 1.28], rtol=1e-6)
  np.testing.assert_allclose(policy_ratios.clipped_exp(x), [0.5, 1.0, 1.5], rtol=1e-6)
  assert policy_ratios.clipped_exp(x.astype(jnp.bfloat16), 0.8, 1.28).dtype == jnp.bfloat16


def test_no_ratio_exceeds_e_to_the_20():
  value, gradient = jax.vmap(jax.value_and_grad(policy_ratios.clipped_exp))(jnp.array([19.0, 21.0, 500.0, -500.0]))
  np.testing.assert_allclose(value, [math.exp(19), math.exp(20), math.exp(20), 0], rtol=1e-5)
  np.testing.assert_allclose(gradient, [math.exp(19), 0, 0, 0], rtol=1e-5)


def test_row_mean_counts_the_tokens_of_a_row():
  x = jnp.array([[1.0, 0.0, 3.0], [0.0, 0.0, 0.0]])
  mask = jnp.array([[True, False, True], [False] * 3])
  np.testing.assert_array_equal(policy_ratios.row_mean(x, mask), [[2.0], [0.0]])
