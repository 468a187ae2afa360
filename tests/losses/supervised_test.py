import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from posttrain_jax.losses import supervised


def test_next_token_nll():
  logprobs = np.array([[-1.0, -2.0, -3.0]], np.float32)
  for mask in (np.array([[True, False, True]]), np.array([[1.0, 0.0, 1.0]])):
    np.testing.assert_array_equal(supervised.next_token_nll(logprobs, mask), [[1, 0, 3]])
    for bad in (np.nan, -np.inf):
      masked = np.where(mask, logprobs, bad)
      np.testing.assert_array_equal(supervised.next_token_nll(masked, mask), [[1, 0, 3]])
      gradient = jax.grad(lambda x, m=mask: jnp.sum(supervised.next_token_nll(x, m)))(masked)
      np.testing.assert_array_equal(gradient, [[-1, 0, -1]])
  assert not np.signbit(supervised.next_token_nll(logprobs, np.zeros((1, 3)))).any()
  assert supervised.next_token_nll(jnp.asarray(logprobs, jnp.bfloat16), mask).dtype == jnp.float32
  with pytest.raises(AssertionError):
    supervised.next_token_nll(logprobs, np.ones((1, 2)))


def test_soft_targets_by_hand():
  # Uniform prediction: log 2 whatever the target. Logits (log 3, 0): probabilities 3/4, 1/4.
  logits, targets = np.log(np.array([[1.0, 1.0], [3.0, 1.0]])), np.array([[0.3, 0.7], [0.5, 0.5]])
  expected = [np.log(2), -0.5 * np.log(0.75) - 0.5 * np.log(0.25)]
  np.testing.assert_allclose(supervised.soft_target_cross_entropy(logits, targets), expected, rtol=1e-6)


def test_soft_targets_gradient_is_prediction_minus_target(x64):
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(3, 4))
  targets = jax.nn.softmax(rng.normal(size=(3, 4)))
  gradient = jax.grad(lambda x: jnp.sum(supervised.soft_target_cross_entropy(x, targets)))(logits)
  np.testing.assert_allclose(gradient, jax.nn.softmax(logits) - targets, atol=1e-14)
  check_grads(lambda x: supervised.soft_target_cross_entropy(x, targets), (logits,), order=1, modes=["rev"])
  constant = jax.grad(lambda t: jnp.sum(supervised.soft_target_cross_entropy(logits, t)))(targets)
  np.testing.assert_array_equal(constant, np.zeros((3, 4)))


def test_one_hot_targets_are_token_nll():
  logits = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
  tokens = np.array([0, 3, 6, 2, 2])
  expected = -np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), tokens[:, None], 1)[:, 0]
  np.testing.assert_allclose(supervised.soft_target_cross_entropy(logits, np.eye(7)[tokens]), expected, rtol=1e-6)


def test_an_impossible_class_without_a_target_adds_nothing():
  logits, targets = np.array([[0.0, 0.0, -np.inf]]), np.array([[0.5, 0.5, 0.0]])
  loss, gradient = jax.value_and_grad(lambda x: jnp.sum(supervised.soft_target_cross_entropy(x, targets)))(logits)
  np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
  np.testing.assert_allclose(gradient, [[0, 0, 0]], atol=1e-7)


def test_large_bfloat16_logits():
  loss = supervised.soft_target_cross_entropy(jnp.array([[1000.0, 0.0]], jnp.bfloat16), jnp.array([[0.0, 1.0]]))
  assert loss.dtype == jnp.float32
  np.testing.assert_allclose(loss, [1000.0])
