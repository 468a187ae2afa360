import jax
import jax.numpy as jnp
import numpy as np

from posttrain_jax.parallel.rounding import AS_WRITTEN


def test_a_rounding_inside_a_program_takes_place():
  x = jnp.asarray(np.random.default_rng(0).normal(size=1000), jnp.bfloat16)
  function = lambda x: (x + x * x).astype(jnp.float32) * 3  # noqa: E731
  in_float32 = lambda x: np.asarray(x, np.float32)  # noqa: E731
  rounded = in_float32(x + x * x) * 3  # each operation is a program of its own
  np.testing.assert_array_equal(jax.jit(function, compiler_options=AS_WRITTEN)(x), rounded)
  assert np.any(np.asarray(jax.jit(function)(x)) != rounded)  # what the options are for
