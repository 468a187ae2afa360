"""Tests the hand-over.

It gives equal bits in buffers of its own with one compile, on the learner's devices and on others.
"""

import dataclasses
import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from posttrain_jax.learner.state import abstract_like, make_train_state
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import Transformer
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.reshard import make_handover
from posttrain_jax.types import InputError
from tests.random_params import names, random_params

CONFIG = TransformerConfig(
  vocab_size=16, num_layers=3, embed_dim=8, mlp_dim=12, num_heads=4, num_kv_heads=2, head_dim=4, qkv_bias=True
)
ALL = jax.devices()


def learner_state(devices, **sizes):
  mesh = make_mesh(sizes, devices)
  state, shardings = make_train_state(CONFIG, optax.sgd(1.0), mesh, seed=0, params=random_params(CONFIG))
  return state, abstract_like(state, shardings).params, shardings


def expected_layers(params, dtype):
  """Makes the same by hand on the host: a list of layers cast from the master copy."""
  flat = {}
  for name, leaf in names(params).items():
    array = np.asarray(jnp.copy(leaf))  # a view of the array itself would keep it from being donated
    if name.startswith("blocks."):
      for i, layer in enumerate(array):
        flat[name.replace("blocks.", f"blocks.{i}.")] = layer.astype(dtype)
    else:
      flat[name] = array.astype(dtype)
  return flat


PLACES = {
  "one device": (ALL[:1], {}, ALL[:1], {}),
  "same devices, other layout": (ALL, {"fsdp": 4, "tensor": 2}, ALL, {"data": 4, "tensor": 2}),
  "disjoint, tensor-parallel sampler": (ALL[:4], {"fsdp": 4}, ALL[4:], {"data": 2, "tensor": 2}),
  "one of the learner's replicas": (ALL, {"data": 8}, ALL[:1], {}),
  "some of the learner's devices": (ALL, {"fsdp": 8}, ALL[:2], {"tensor": 2}),
}


@pytest.mark.parametrize("place", PLACES)
def test_bits_buffers_and_layout(place, caplog):
  devices, sizes, sampler_devices, sampler_sizes = PLACES[place]
  state, abstract, shardings = learner_state(devices, **sizes)
  mesh = make_mesh(sampler_sizes, sampler_devices)
  handover = make_handover(abstract, num_layers=3, dtype="float32", mesh=mesh)
  expected = expected_layers(state.params, np.float32)
  train = jax.jit(lambda s: jax.tree.map(lambda x: x * 0 - 1, s), donate_argnums=0, out_shardings=shardings)

  with caplog.at_level(logging.WARNING), jax.log_compiles():
    handed = handover(state.params)
    old, state = state, train(state)  # donates what was just handed over
    first = [record.getMessage() for record in caplog.records if "Finished XLA compilation" in record.getMessage()]
    caplog.clear()
    again = handover(state.params)
    jax.block_until_ready(again)
    second = [record.getMessage() for record in caplog.records if "Finished XLA compilation" in record.getMessage()]
  assert len([line for line in first if "jit(_unstack)" in line]) == 1
  assert second == []  # the second hand-over compiles nothing
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old.params))

  found = names(handed)
  assert found.keys() == expected.keys()
  for name, leaf in found.items():
    assert leaf.sharding.device_set == set(sampler_devices)
    np.testing.assert_array_equal(np.asarray(leaf), expected[name], strict=True)
  assert all(np.all(np.asarray(leaf) == -1) for leaf in names(again).values())

  tensor = mesh.shape["tensor"]
  assert {s.data.shape for s in found["blocks.0.attention.key"].addressable_shards} == {(8, 2 // tensor, 4)}
  assert {s.data.shape for s in found["blocks.2.mlp.down"].addressable_shards} == {(12 // tensor, 8)}
  assert {s.data.shape for s in found["final_norm.scale"].addressable_shards} == {(8,)}


def test_bfloat16_is_the_cast_of_the_master_copy():
  state, abstract, _ = learner_state(ALL[:2], fsdp=2)
  mesh = make_mesh({"data": 2}, ALL[:2])
  handed = names(make_handover(abstract, num_layers=3, dtype="bfloat16", mesh=mesh)(state.params))
  for name, expected in expected_layers(state.params, jnp.bfloat16).items():
    np.testing.assert_array_equal(np.asarray(handed[name]), expected, strict=True)
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state.params))


def test_the_structure_is_that_of_the_unstacked_transformer():
  state, abstract, _ = learner_state(ALL[:1])
  handed = make_handover(abstract, num_layers=3, dtype="float32", mesh=make_mesh({}, ALL[:1]))(state.params)
  unstacked = nnx.state(nnx.eval_shape(lambda: Transformer(dataclasses.replace(CONFIG, stacked=False), nnx.Rngs(0))))
  shapes = [{name: leaf.shape for name, leaf in names(tree).items()} for tree in (handed, unstacked)]
  assert shapes[0] == shapes[1]


def test_a_sampler_mesh_that_does_not_divide_is_refused():
  _, abstract, _ = learner_state(ALL, fsdp=8)
  with pytest.raises(InputError, match=r"mesh: \S*blocks\.0\.attention\.key\S* .*tensor=4"):
    make_handover(abstract, num_layers=3, dtype="float32", mesh=make_mesh({"data": 2, "tensor": 4}))


def unstacked_learner(devices, **sizes):
  mesh = make_mesh(sizes, devices)
  config = dataclasses.replace(CONFIG, stacked=False)
  state, shardings = make_train_state(config, optax.sgd(1.0), mesh, seed=0)
  return state, abstract_like(state, shardings).params, mesh


@pytest.mark.parametrize("sizes", [{}, {"data": 4, "tensor": 2}])
def test_nothing_is_copied_where_layers_dtype_and_layout_agree(sizes):
  state, abstract, mesh = unstacked_learner(ALL[:1] if not sizes else ALL, **sizes)
  handed = make_handover(abstract, num_layers=3, dtype="float32", mesh=mesh)(state.params)
  assert all(a is b for a, b in zip(jax.tree.leaves(handed), jax.tree.leaves(state.params), strict=True))


@pytest.mark.parametrize("change", ["dtype", "layout"])
def test_unstacked_layers_are_copied_where_dtype_or_layout_differ(change):
  state, abstract, mesh = unstacked_learner(ALL, **({"fsdp": 8} if change == "layout" else {"data": 8}))
  dtype = "bfloat16" if change == "dtype" else "float32"
  handed = make_handover(abstract, num_layers=3, dtype=dtype, mesh=mesh)(state.params)
  for (name, old), new in zip(names(state.params).items(), names(handed).values(), strict=True):
    np.testing.assert_array_equal(np.asarray(new), np.asarray(old).astype(dtype), err_msg=name)
    assert new.dtype == dtype
  jax.tree.map(lambda x: x.delete(), state.params)
  assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(handed))
