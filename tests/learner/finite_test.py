import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.learner.finite import not_finite


def tree(**changes):
  arrays = dict(a=jnp.ones(3), b=np.ones((2, 2), np.float32), c=jnp.ones(2, jnp.bfloat16), n=jnp.arange(3))
  return {"params": arrays | changes, "updates": jnp.int32(1), "opt_state": {"mu": jnp.array([jnp.nan])}}


def test_finite_arrays_of_any_kind():
  assert not_finite(tree()) is None and not_finite({}) is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_the_first_array_that_is_not_is_named(name, value):
  broken = np.asarray(tree()["params"][name]).copy()
  broken.flat[1] = value
  assert not_finite(tree(**{name: broken})) == f"params/{name}"
