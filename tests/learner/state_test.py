"""Tests that a train state is made in its shardings.

It starts from random or given parameters and leaves the given ones as they are.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.learner.optimizer import make_optimizer
from posttrain_jax.learner.state import TrainState, abstract_like, make_train_state, train_state_of, with_more
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.types import InputError
from tests.learner.settings import make_optimizer_config
from tests.random_params import names, random_params

CONFIG = TransformerConfig(16, num_layers=1, embed_dim=8, mlp_dim=8, num_heads=2, num_kv_heads=2, head_dim=4)
OPTIMIZER = make_optimizer(make_optimizer_config())


def mesh(**sizes):
  return make_mesh(sizes, jax.devices()[: int(np.prod([*sizes.values()]))])


def test_random_parameters_depend_on_the_seed_and_not_on_the_mesh():
  one, _ = make_train_state(CONFIG, OPTIMIZER, mesh(fsdp=1), seed=3)
  other, shardings = make_train_state(CONFIG, OPTIMIZER, mesh(fsdp=2, tensor=2), seed=3)
  another, _ = make_train_state(CONFIG, OPTIMIZER, mesh(fsdp=1), seed=4)
  assert int(one.updates) == 0 and one.updates.dtype == jnp.int32
  for name, leaf in names(one.params).items():
    assert leaf.dtype == jnp.float32
    np.testing.assert_array_equal(leaf, names(other.params)[name], err_msg=name)
  assert any(np.any(leaf != names(another.params)[name]) for name, leaf in names(one.params).items())
  for leaf, sharding in zip(jax.tree.leaves(other), jax.tree.leaves(shardings), strict=True):
    assert leaf.sharding == sharding
  assert any(not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(other.opt_state))


@pytest.mark.parametrize("on_device", [False, True])
def test_given_parameters_outlive_the_donated_state(on_device):
  given = random_params(CONFIG)
  given = jax.tree.map(jnp.asarray if on_device else np.asarray, given)
  before = {name: np.array(leaf) for name, leaf in names(given).items()}
  state, _ = make_train_state(CONFIG, OPTIMIZER, mesh(fsdp=1), seed=0, params=given)
  jax.block_until_ready(jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)(state))
  for name, leaf in names(given).items():
    np.testing.assert_array_equal(leaf, before[name], err_msg=name)


def test_an_abstract_state_has_the_shapes_and_no_arrays():
  real, shardings = make_train_state(CONFIG, OPTIMIZER, mesh(fsdp=2), seed=0)
  abstract, _ = make_train_state(CONFIG, OPTIMIZER, mesh(fsdp=2), seed=0, abstract=True)
  assert jax.tree.structure(abstract) == jax.tree.structure(real)
  for leaf, made, wanted in zip(*map(jax.tree.leaves, (abstract, real, abstract_like(real, shardings)))):
    assert isinstance(leaf, jax.ShapeDtypeStruct) and leaf == wanted
    assert (leaf.shape, leaf.dtype, leaf.sharding) == (made.shape, made.dtype, made.sharding)


def test_a_parameter_that_does_not_divide_is_named():
  with pytest.raises(InputError, match="tensor"):
    make_train_state(CONFIG, OPTIMIZER, mesh(tensor=8), seed=0)


def test_more_arrays_beside_a_train_state():
  state = TrainState(jnp.int32(2), {"w": jnp.ones(3)}, ())
  saved = with_more(state, value="value", average="average")
  assert saved.keys() == {"updates", "params", "opt_state", "value", "average"} and saved["params"] is state.params
  assert train_state_of(saved) == state
