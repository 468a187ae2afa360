import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posttrain_jax.learner.digest import params_sha256

BASE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": {"c": np.float32(0.0)}}


def test_known_value():
  # printf 'a int32 (2,)\n\x01\0\0\0\x02\0\0\0' | sha256sum
  tree = {"a": np.array([1, 2], "<i4")}
  assert params_sha256(tree) == "5ffb5a24e282fa2abb02fe92583d04d6b53d53310777a13ba1fa4137e6fcc742"


@pytest.mark.parametrize(
  "other",
  [
    {"a": BASE["a"], "b": {"c": np.float32(-0.0)}},
    {"a": BASE["a"].reshape(3, 2), "b": BASE["b"]},
    {"a": BASE["a"].view(np.int32), "b": BASE["b"]},
    {"a": BASE["a"], "b": {"d": np.float32(0.0)}},
    {"a": np.nextafter(BASE["a"], np.float32(9)), "b": BASE["b"]},
  ],
)
def test_any_difference_shows(other):
  assert params_sha256(BASE) != params_sha256(other)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int8])
def test_neither_sharding_nor_memory_order_matters(dtype):
  mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("x", "y"))
  host = np.arange(64).reshape(8, 8).astype(dtype)
  expected = params_sha256({"w": host})
  assert params_sha256({"w": np.asfortranarray(host)}) == expected
  for spec in (PartitionSpec("x", "y"), PartitionSpec(None, "y"), PartitionSpec()):
    assert params_sha256({"w": jax.device_put(host, NamedSharding(mesh, spec))}) == expected


def test_leaves_no_host_copy_behind():
  mesh = Mesh(np.array(jax.devices()).reshape(8), ("x",))
  leaf = jax.device_put(np.zeros((8, 8)), NamedSharding(mesh, PartitionSpec("x")))
  params_sha256(leaf)
  assert leaf._npy_value is None


def test_takes_nnx_state():
  layer = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
  before = params_sha256(nnx.state(layer))
  layer.bias[...] += 1
  assert params_sha256(nnx.state(layer)) != before
