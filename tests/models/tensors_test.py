"""Tests that one table of names takes tensors apart and puts them together.

Each tensor has its place once.
"""

import pathlib

import numpy as np
import pytest

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.tensors import assemble, disassemble, match, sources
from posttrain_jax.types import InputError

SIZES = dict(vocab_size=7, num_layers=3, embed_dim=12, mlp_dim=10, num_heads=4, num_kv_heads=2, head_dim=6)
WHERE = pathlib.Path("model")


def params(config):
  rng = np.random.default_rng(0)
  layers = {path: (config.num_layers,) * (path[0] == "blocks") for path in sources(config)}
  return {
    path: rng.normal(size=(*layers[path], *source.shape)).astype(np.float32) for path, source in sources(config).items()
  }


def stored(config, arrays):
  readers = {path: lambda layer, a=array: a if layer is None else a[layer] for path, array in arrays.items()}
  return disassemble(config, readers, WHERE)


@pytest.mark.parametrize(
  "options",
  [{}, {"tied": True}, {"qkv_bias": True}, {"qk_norm": True}, {"qkv_bias": True, "qk_norm": True, "scalar_head": True}],
)
def test_there_and_back(options):
  config = TransformerConfig(**SIZES, **options)
  arrays = params(config)
  tensors = stored(config, arrays)
  for tensor in tensors.values():
    assert tensor.read().shape == tensor.shape and tensor.read().dtype == tensor.dtype == "float32"
  assert sum(np.prod(tensor.shape) for tensor in tensors.values()) == config.num_params - config.scalar_head
  assert list(match(config, tensors, WHERE)) == list(tensors)
  back = assemble(config, match(config, tensors, WHERE))
  assert back.keys() == arrays.keys()
  for path, array in arrays.items():
    np.testing.assert_array_equal(back[path], array)


def test_a_matrix_is_out_by_in_and_heads_are_rows():
  config = TransformerConfig(**SIZES)
  arrays = params(config)
  tensors = stored(config, arrays)
  # Row 6 + 2 of the queries' matrix is dimension 2 of head 1.
  np.testing.assert_array_equal(
    tensors["model.layers.1.self_attn.q_proj.weight"].read()[8], arrays["blocks", "attention", "query"][1, :, 1, 2]
  )
  np.testing.assert_array_equal(
    tensors["model.layers.2.self_attn.o_proj.weight"].read()[:, 8], arrays["blocks", "attention", "out"][2, 1, 2]
  )
  names = list(tensors)
  assert names[0] == "model.embed_tokens.weight" and names[-2:] == ["model.norm.weight", "lm_head.weight"]
  assert [name.split(".")[2] for name in names[1:-2]] == ["0"] * 9 + ["1"] * 9 + ["2"] * 9


def test_nothing_is_read_before_it_is_asked_for():
  def unread(layer):
    raise AssertionError("read")

  config = TransformerConfig(**SIZES)
  match(config, disassemble(config, {path: unread for path in sources(config)}, WHERE), WHERE)


def test_what_does_not_fit():
  config = TransformerConfig(**SIZES)
  tensors = stored(config, params(config))
  with pytest.raises(InputError, match=r"^model: tensor 'lm_head.weight' is missing"):
    match(config, {name: t for name, t in tensors.items() if name != "lm_head.weight"}, WHERE)
  with pytest.raises(InputError, match="tensor 'more' has no place in this architecture"):
    match(config, {**tensors, "more": tensors["model.norm.weight"]}, WHERE)
