import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from posttrain_jax.learner.state import make_train_state
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import Transformer
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.sharding import (
  LEARNER_RULES,
  SAMPLER_RULES,
  batch_sharding,
  batch_shards,
  constrain,
  partition_spec,
  state_shardings,
)
from posttrain_jax.types import InputError
from tests.random_params import names, random_params

CONFIG = TransformerConfig(
  vocab_size=16,
  num_layers=2,
  embed_dim=8,
  mlp_dim=12,
  num_heads=4,
  num_kv_heads=2,
  head_dim=4,
  qkv_bias=True,
  qk_norm=True,
)


def abstract(config=CONFIG):
  return nnx.state(nnx.eval_shape(lambda: Transformer(config, nnx.Rngs(0))))


def test_names_become_mesh_axes():
  spec = partition_spec(("layers", "embed", "heads", "head_dim"), LEARNER_RULES)
  assert spec == PartitionSpec(None, "fsdp", "tensor", None)
  assert partition_spec(("batch", None, "hidden"), LEARNER_RULES) == PartitionSpec(("data", "fsdp"), None, None)
  assert partition_spec(("embed", "mlp"), SAMPLER_RULES) == PartitionSpec(None, "tensor")


def test_two_names_on_one_mesh_axis_are_an_error():
  with pytest.raises(InputError, match=r"'vocab' and 'mlp' of .* both map to mesh axis 'tensor'"):
    partition_spec(("vocab", "mlp"), LEARNER_RULES)
  with pytest.raises(InputError, match=r"'batch' and 'embed' of .* both map to mesh axis 'fsdp'"):
    partition_spec(("batch", "length", "embed"), LEARNER_RULES)
  # Also from a table that was changed, wherever the parameter is.
  with pytest.raises(InputError, match="both map to mesh axis 'tensor'"):
    state_shardings(abstract(), make_mesh({"tensor": 2, "data": 4}), {**LEARNER_RULES, "embed": "tensor"})


def test_a_name_without_a_rule_is_an_error():
  with pytest.raises(InputError, match="no rule for logical axis 'expert'; known are layers, vocab"):
    partition_spec(("expert", "embed"), LEARNER_RULES)


def test_every_parameter_is_laid_out_by_its_names_and_stacks_have_layers_first():
  mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
  shardings = state_shardings(abstract(), mesh, LEARNER_RULES)
  by_name = {name: sharding.spec for name, sharding in names(shardings).items()}
  assert by_name["embed"] == PartitionSpec("tensor", "fsdp")
  assert by_name["blocks.attention.query"] == PartitionSpec(None, "fsdp", "tensor", None)
  assert by_name["blocks.attention.out"] == PartitionSpec(None, "tensor", None, "fsdp")
  assert by_name["blocks.attention.key_bias"] == PartitionSpec(None, "tensor", None)
  assert by_name["blocks.mlp.down"] == PartitionSpec(None, "tensor", "fsdp")
  assert by_name["blocks.mlp_norm.scale"] == PartitionSpec(None, "fsdp")
  assert by_name["final_norm.scale"] == PartitionSpec("fsdp")
  assert by_name["head"] == PartitionSpec("fsdp", "tensor")


@pytest.mark.parametrize(
  ("change", "sizes", "name"),
  [
    ({"num_heads": 6, "num_kv_heads": 2}, {"tensor": 4, "data": 2}, "key"),
    ({"num_heads": 6, "num_kv_heads": 6}, {"tensor": 4, "data": 2}, "key"),
    ({"embed_dim": 12}, {"fsdp": 8}, "attention"),
    ({"vocab_size": 15}, {"tensor": 2, "data": 4}, "embed"),
    ({"mlp_dim": 9}, {"tensor": 2, "data": 4}, "mlp"),
  ],
)
def test_what_does_not_divide_is_named(change, sizes, name):
  config = dataclasses.replace(CONFIG, **change)
  with pytest.raises(InputError, match=rf"mesh: \S*{name}\S* \(.*is not divisible by (tensor|fsdp)=\d") as error:
    make_train_state(config, optax.sgd(1.0), make_mesh(sizes), seed=0)
  assert "\n" not in str(error.value)


def test_the_train_state_is_made_in_its_shards():
  mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
  state, shardings = make_train_state(CONFIG, optax.adam(1e-3), mesh, seed=0, params=random_params(CONFIG))
  jax.tree.map(lambda x, s: np.testing.assert_(x.sharding.is_equivalent_to(s, x.ndim)), state, shardings)
  query = jax.tree.leaves(state.params["blocks"]["attention"]["query"])[0]
  assert query.shape == (2, 8, 4, 4)
  assert {shard.data.shape for shard in query.addressable_shards} == {(2, 4, 2, 4)}
  moment = jax.tree.leaves(state.opt_state[0].mu["blocks"]["attention"]["query"])[0]
  assert moment.sharding.is_equivalent_to(query.sharding, 4)
  assert state.updates.sharding.is_fully_replicated


def test_random_parameters_do_not_depend_on_the_mesh():
  config = dataclasses.replace(CONFIG, num_layers=1, qkv_bias=False, tied=True)  # as few programs as possible
  states = [
    make_train_state(config, optax.sgd(1.0), make_mesh(sizes, jax.devices()[: np.prod(list(sizes.values()))]), seed=3)[
      0
    ]
    for sizes in ({"data": 1}, {"fsdp": 4, "tensor": 2})
  ]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *(state.params for state in states))


def test_batches():
  mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
  assert batch_shards(mesh) == 4
  assert batch_sharding(mesh).spec == PartitionSpec(("data", "fsdp"))
  assert batch_sharding(mesh, leading=1).spec == PartitionSpec(None, ("data", "fsdp"))


def test_constrain_acts_within_a_mesh_only():
  x = jnp.ones((8, 4, 6))
  assert constrain(x, "batch", "length", "no such name") is x
  mesh = make_mesh({"fsdp": 4, "tensor": 2})
  with jax.set_mesh(mesh):
    y = jax.jit(lambda x: constrain(x * 2, "batch", "length", "mlp"))(x)
    with pytest.raises(InputError, match="no rule"):
      jax.jit(lambda x: constrain(x, "batch", "length", "no such name"))(x)
  assert {shard.data.shape for shard in y.addressable_shards} == {(2, 4, 3)}
