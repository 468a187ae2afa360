import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.losses import policy
from tests.losses.policy_example import example


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
