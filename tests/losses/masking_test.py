import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.losses import masking


def test_counted_zeroes_and_widens():
  mask, x, n = masking.counted(
    np.array([1.0, 0.0]), jnp.array([1.5, jnp.nan], jnp.bfloat16), np.array([2, 3], np.int32)
  )
  assert mask.dtype == bool and x.dtype == n.dtype == jnp.float32
  np.testing.assert_array_equal([mask, x, n], [[1, 0], [1.5, 0], [2, 0]])
  with pytest.raises(AssertionError):
    masking.counted(np.ones(2), np.ones((1, 2)))


def test_float64_stays(x64):
  assert masking.counted(np.ones(1, np.float32), np.ones(1))[1].dtype == jnp.float64


def test_divide_or_zero():
  denominator = np.array([2.0, 0.0])
  quotient, gradient = jax.value_and_grad(lambda x: jnp.sum(masking.divide_or_zero(x, denominator)))(
    np.array([3.0, 3.0])
  )
  assert quotient == 1.5
  np.testing.assert_array_equal(gradient, [0.5, 0])
