import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.models.dense import dense


def plain(x, kernel):
  return jnp.einsum("bti,io->bto", x, kernel)


def gradients(function, x, kernel, to_y):
  return jax.grad(lambda x, kernel: jnp.sum(function(x, kernel) * to_y), (0, 1))(x, kernel)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_value_and_gradients(dtype):
  rng = np.random.default_rng(0)
  x, kernel, to_y = rng.normal(size=(2, 3, 4)), rng.normal(size=(4, 5)), rng.normal(size=(2, 3, 5))
  tolerance = 1e-5 if dtype == jnp.float32 else 0.1
  given = [jnp.asarray(array, dtype) for array in (x, kernel, to_y)]
  found = dense(*given[:2]), *gradients(dense, *given)
  expected = x @ kernel, to_y @ kernel.T, x.reshape(6, 4).T @ to_y.reshape(6, 5)
  for ours, wanted in zip(found, expected, strict=True):
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours.astype(jnp.float32), wanted, atol=tolerance)


def test_the_backward_pass_transposes_nothing():
  shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 3, 4), (4, 5), (2, 3, 5))]
  programs = [str(jax.make_jaxpr(lambda *arrays, f=f: gradients(f, *arrays))(*shapes)) for f in (dense, plain)]
  assert "transpose[" not in programs[0]
  assert "transpose[" in programs[1]  # what autodiff makes of the product
