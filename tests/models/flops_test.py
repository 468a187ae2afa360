"""Tests the count of FLOPs, by hand and against the compiler's count."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from posttrain_jax.models import flops, forward
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer

CONFIG = TransformerConfig(
  vocab_size=512, num_layers=2, embed_dim=64, mlp_dim=128, num_heads=4, num_kv_heads=2, head_dim=16, unroll=2
)


def test_by_hand():
  # One layer: query and output 64 x 64 each, key and value 64 x 32 each, three of 64 x 128: 36,864 weights.
  assert flops.forward(CONFIG, tokens=1, pairs=0, logits=0) == 2 * 2 * 36_864
  # Scores and weighted values: 2 x 4 heads x 16 multiplications a pair and layer.
  assert flops.forward(CONFIG, tokens=0, pairs=1, logits=0) == 2 * 2 * 2 * 4 * 16
  assert flops.forward(CONFIG, tokens=0, pairs=0, logits=1) == 2 * 64 * 512
  assert [flops.causal(n) for n in (0, 1, 2, 3)] == [0, 1, 3, 6]


def test_the_compiler_counts_the_same():
  """The compiler counts all pairs, masked ones too, and a little for what is no matrix product."""
  graph, params = abstract_transformer(CONFIG)
  rows, length = 4, 32

  def logits(params, tokens):
    model = nnx.merge(graph, params)
    return jnp.einsum("btd,dv->btv", forward.row_hidden(model, tokens), model.unembedding())

  tokens = jax.ShapeDtypeStruct((rows, length), jnp.int32)
  counted = jax.jit(logits).lower(params, tokens).compile().cost_analysis()["flops"]
  expected = flops.forward(CONFIG, tokens=rows * length, pairs=rows * length**2, logits=rows * length)
  assert counted == pytest.approx(expected, rel=0.08) and counted > expected
