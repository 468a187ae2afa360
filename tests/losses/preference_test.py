"""Tests the properties of every preference loss.

The test of each file has the numbers of its own losses.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tests.losses.preference_example import LOSSES, RELATIVE, example

each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
each_relative_loss = pytest.mark.parametrize("loss", RELATIVE.values(), ids=RELATIVE.keys())


@each_loss
def test_gradients_match_finite_differences(loss, x64):
  chosen, rejected, *reference = example(dtype=np.float64)
  check_grads(lambda c, r: loss(c, r, *reference), (chosen, rejected), order=1, modes=["fwd", "rev"], rtol=1e-5)


@each_loss
def test_jit_changes_nothing(loss):
  # A few units in the last place: XLA fuses and contracts.
  np.testing.assert_allclose(jax.jit(loss)(*example()), loss(*example()), rtol=1e-5, atol=1e-6)


@each_loss
def test_one_loss_per_comparison_in_at_least_float32(loss):
  for given, expected in ((jnp.bfloat16, jnp.float32), (jnp.float32, jnp.float32)):
    result = loss(*(jnp.asarray(x, given) for x in example()))
    assert result.shape == (5,) and result.dtype == expected


@each_relative_loss
def test_bfloat16_logprobs_are_subtracted_in_float32(loss):
  # Exact in bfloat16; their difference, 1 − 2⁻¹⁰, would be rounded to 1.
  inputs = [jnp.full(1, x, jnp.bfloat16) for x in (-(2.0**-10), -2.0, -1.0, -2.0)]
  np.testing.assert_array_equal(loss(*inputs), loss(*(x.astype(jnp.float32) for x in inputs)))


@pytest.mark.parametrize("name", [*RELATIVE, "kto"])
def test_no_gradient_into_the_reference(name):
  gradients = jax.grad(lambda *x: jnp.sum(LOSSES[name](*x)), argnums=(2, 3))(*example())
  np.testing.assert_array_equal(gradients, np.zeros((2, 5)))


@each_loss
def test_extreme_logprobs_give_finite_losses_and_gradients_in_float32(loss):
  policy = jnp.array([-1e4, -1e-30, -1e4, -3.0, -1e-30])
  inputs = policy, policy[::-1], policy[jnp.array([1, 2, 3, 0, 0])], policy
  value, gradients = jax.value_and_grad(lambda *x: jnp.sum(loss(*x)), argnums=(0, 1))(*inputs)
  assert np.isfinite(value) and np.isfinite(gradients).all()


@pytest.mark.parametrize("name", ["dpo", "simpo", "cpo", "bradley_terry"])
def test_a_hopelessly_wrong_order_costs_its_distance(name):
  chosen, rejected = np.float32([-1e4]), np.float32([-1.0])
  scale = {"dpo": 0.5, "simpo": 2.5, "cpo": 0.5, "bradley_terry": 1.0}[name]
  plus = {"dpo": 0.0, "simpo": 1.375, "cpo": 0.0, "bradley_terry": 0.3 + 0.01 * 10001**2}[name]
  loss, gradient = jax.value_and_grad(lambda c: jnp.sum(LOSSES[name](c, rejected, rejected, rejected)))(chosen)
  np.testing.assert_allclose(loss, scale * 9999 + plus, rtol=1e-6)
  centering = 2 * 0.01 * -10001 if name == "bradley_terry" else 0
  np.testing.assert_allclose(gradient, [-scale + centering], rtol=1e-5)


@each_loss
def test_different_shapes_are_refused(loss):
  chosen, rejected, *reference = example()
  with pytest.raises((AssertionError, ValueError)):
    loss(chosen, rejected[:1], *reference)
