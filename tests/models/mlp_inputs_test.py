"""Tests that the kept inputs are those that the model computes with."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.models.mlp_inputs import mlp_inputs
from tests.random_params import graph, random_params

LLAMA = TransformerConfig(17, num_layers=3, embed_dim=8, mlp_dim=12, num_heads=2, num_kv_heads=1, head_dim=4)
QWEN = TransformerConfig(
  17, num_layers=2, embed_dim=8, mlp_dim=12, num_heads=2, num_kv_heads=2, head_dim=4, qkv_bias=True, qk_norm=True
)


@pytest.mark.parametrize("config", [LLAMA, QWEN], ids=["llama", "qwen"])
def test_hidden_states_are_the_models_and_inputs_explain_them(config):
  params = random_params(config)
  model = nnx.merge(graph(config), params)
  tokens = jnp.asarray(np.random.default_rng(0).integers(0, 17, (2, 7)))
  given, hidden, final = mlp_inputs(model, tokens)
  assert given.shape == (config.num_layers, 2, 7, 8) and hidden.shape == (config.num_layers, 2, 7, 12)
  np.testing.assert_allclose(final, row_hidden(model, tokens), rtol=1e-5, atol=1e-6)
  # What `down` gets follows from what gate and up get, layer by layer.
  mlp = params["blocks"]["mlp"]
  gate, up = (np.einsum("lbtd,ldf->lbtf", given, mlp[name].get_value()) for name in ("gate", "up"))
  np.testing.assert_allclose(hidden, gate / (1 + np.exp(-gate)) * up, rtol=1e-4, atol=1e-5)


def test_what_follows_a_text_does_not_change_its_inputs():
  model = nnx.merge(graph(LLAMA), random_params(LLAMA))
  tokens = np.random.default_rng(1).integers(1, 17, (1, 6))
  whole = mlp_inputs(model, jnp.asarray(tokens))
  part = mlp_inputs(model, jnp.asarray(tokens[:, :4]))
  for one, other in zip(whole[:2], part[:2]):
    np.testing.assert_allclose(one[:, :, :4], other, rtol=1e-5, atol=1e-6)
