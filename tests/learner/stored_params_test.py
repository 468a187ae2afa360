"""Reads parameters that eight devices wrote, one layer at a time."""

import jax
import numpy as np
import pytest
import tensorstore

from posttrain_jax.learner import stored_params
from posttrain_jax.learner.checkpoint import Checkpointer
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.sharding import LEARNER_RULES, state_shardings
from posttrain_jax.types import InputError
from tests.random_params import random_params

CONFIG = TransformerConfig(16, 3, 8, 16, 4, 2, 4, qkv_bias=True, qk_norm=True, scalar_head=True)
_, ABSTRACT = abstract_transformer(CONFIG)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
  """Steps 1 and 2, and the parameters of step 1; step 2 has others."""
  directory, mesh = tmp_path_factory.mktemp("run"), make_mesh({"fsdp": 4, "tensor": 2})
  params = random_params(CONFIG)
  placed = jax.device_put(params, state_shardings(params, mesh, LEARNER_RULES))
  with Checkpointer(directory) as saver:
    saver.save(1, {"params": placed, "average": jax.tree.map(lambda x: x + 1, placed)}, {})
    saver.save(2, {"params": jax.tree.map(lambda x: x + 2, placed)}, {})
  return directory, params


def _of(params, path):
  for key in path:
    params = params[key]
  return np.asarray(params[...])


@pytest.mark.parametrize("name, step, added", [("params", 1, 0), ("average", 1, 1), ("params", None, 2)])
def test_every_layer_of_every_parameter(checkpoints, name, step, added):
  directory, params = checkpoints
  found = stored_params.open_params(directory, ABSTRACT, name=name, step=step)
  assert len(found) == len(jax.tree.leaves(params))
  for path, read in found.items():
    expected = _of(params, path) + np.float32(added)
    for layer in range(CONFIG.num_layers) if path[0] == "blocks" else [None]:
      np.testing.assert_array_equal(read(layer), expected if layer is None else expected[layer])


def test_a_stack_is_stored_layer_by_layer(checkpoints):
  """Otherwise a reader of one layer would decode all of them."""
  directory, _ = checkpoints
  store = {"driver": "ocdbt", "base": f"file://{directory}/1/state/", "path": "params.blocks.mlp.up.value/"}
  array = tensorstore.open({"driver": "zarr", "kvstore": store}, open=True, read=True).result()
  assert array.shape == (3, 8, 16)
  assert array.chunk_layout.read_chunk.shape == (1, 2, 8)  # a device's part of one layer


def test_what_is_not_there(checkpoints, tmp_path):
  directory, _ = checkpoints
  assert stored_params.open_params(tmp_path, ABSTRACT) is None
  with pytest.raises(InputError, match="step 7 is not there"):
    stored_params.open_params(directory, ABSTRACT, step=7)
  with pytest.raises(InputError, match=r"leaf average/blocks/.* is absent"):
    stored_params.open_params(directory, ABSTRACT, name="average")
  _, other = abstract_transformer(TransformerConfig(16, 3, 8, 8, 4, 2, 4))
  with pytest.raises(InputError, match=r"is float32\[3, .*expected float32\[3, "):
    stored_params.open_params(directory, other)
