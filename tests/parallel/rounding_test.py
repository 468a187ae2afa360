import jax
import jax.numpy as jnp
import numpy as np

from posttrain_jax.parallel.rounding import AS_WRITTEN


def test_a_rounding_in_the_middle_of_a_program_takes_place():
  x = np.random.default_rng(0).normal(size=1000).astype(np.float32)
  function = lambda x: (x * 3).astype(jnp.bfloat16).astype(jnp.float32) - x  # noqa: E731
  rounded = np.asarray(x * 3, jnp.bfloat16).astype(np.float32) - x
  np.testing.assert_array_equal(jax.jit(function, compiler_options=AS_WRITTEN)(x), rounded)
  assert np.any(np.asarray(jax.jit(function)(x)) != rounded)  # what the options are for
