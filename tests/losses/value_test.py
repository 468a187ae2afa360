import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from posttrain_jax.losses import value


def test_by_hand():
  # old 0, clip .2, value .5 → clipped .2.  Return 1: squares .25 and .64, the larger is the clipped one, without
  # gradient. Return 0: squares .25 and .04, the larger is the unclipped one. Old .5: not clipped.
  values, old = np.array([[0.5, 0.5, 0.5, 0.5]]), np.array([[0.0, 0.0, 0.5, 0.0]])
  returns, mask = np.array([[1.0, 0.0, 1.0, 9.0]]), np.array([[1, 1, 1, 0]])
  loss, gradient = jax.value_and_grad(lambda v: jnp.sum(value.clipped_value_loss(v, old, returns, mask)))(values)
  np.testing.assert_allclose(value.clipped_value_loss(values, old, returns, mask), [[0.32, 0.125, 0.125, 0]], rtol=1e-6)
  np.testing.assert_allclose(loss, 0.57, rtol=1e-6)
  np.testing.assert_allclose(gradient, [[0, 0.5, -0.5, 0]], atol=1e-6)


def test_constants_masks_and_gradients(x64):
  rng = np.random.default_rng(0)
  values, old, returns = rng.normal(size=(3, 4, 5))
  mask = rng.random((4, 5)) < 0.6
  loss = value.clipped_value_loss(values, old, returns, mask)
  gradient = jax.grad(lambda v: jnp.sum(value.clipped_value_loss(v, old, returns, mask)))(values)
  assert np.all(loss[~mask] == 0) and np.all(gradient[~mask] == 0) and np.any(gradient != 0)
  check_grads(lambda v: value.clipped_value_loss(v, old, returns, mask), (values,), order=1, modes=["rev"], eps=1e-6)
  constants = jax.grad(lambda *x: jnp.sum(value.clipped_value_loss(values, *x, mask)), (0, 1))(old, returns)
  np.testing.assert_array_equal(constants, np.zeros((2, 4, 5)))
  for bad in (np.nan, np.inf):
    masked = [np.where(mask, x, bad) for x in (values, old, returns)]
    np.testing.assert_array_equal(value.clipped_value_loss(*masked, mask), loss)
    bad_gradient = jax.grad(lambda v, m=masked: jnp.sum(value.clipped_value_loss(v, *m[1:], mask)))(masked[0])
    np.testing.assert_array_equal(bad_gradient, gradient)
  np.testing.assert_allclose(jax.jit(value.clipped_value_loss)(values, old, returns, mask), loss)
  np.testing.assert_array_equal(value.clipped_value_loss(values, old, returns, mask.astype(float)), loss)
  keep = [0, 2, 3]
  sliced = value.clipped_value_loss(*(x[:, keep] for x in (values, old, returns, mask)))
  np.testing.assert_array_equal(sliced, loss[:, keep])


def test_dtype_and_shapes():
  arrays = [jnp.full((1, 2), x, jnp.bfloat16) for x in (0.5, 0.0, 1.0, 1.0)]
  assert value.clipped_value_loss(*arrays).dtype == jnp.float32
  with pytest.raises(AssertionError):
    value.clipped_value_loss(*arrays[:3], np.ones((1, 3)))


def test_explained_variance():
  returns = np.array([[1.0, 2.0, 3.0, 99.0], [4.0, 99.0, 99.0, 99.0]])
  mask = np.array([[1, 1, 1, 0], [1, 0, 0, 0]])
  explained = lambda values: float(value.explained_variance(values, returns, mask))  # noqa: E731
  assert explained(returns) == 1
  assert explained(np.full_like(returns, 7.0)) == pytest.approx(0, abs=1e-6)  # a constant, however far off
  assert explained(-returns) == pytest.approx(-3)  # residuals 2 R have four times the variance
  # By hand: residuals ±.5 around the mean have variance .25, returns 1.25.
  assert explained(returns - np.array([[0.5, -0.5, 0.5, 0], [-0.5, 0, 0, 0]])) == pytest.approx(1 - 0.25 / 1.25)
  np.testing.assert_array_equal(value.explained_variance(np.where(mask, 0, np.nan), returns, mask), explained(0 * mask))


@pytest.mark.parametrize("mask", [np.zeros((2, 4)), np.eye(2, 4), np.ones((2, 4))])
def test_nothing_to_explain(mask):
  returns = np.full((2, 4), 0.7, np.float32)
  assert value.explained_variance(np.arange(8.0).reshape(2, 4), returns, mask) == 0
