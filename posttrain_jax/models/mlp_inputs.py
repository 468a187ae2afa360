"""Runs a forward pass that keeps what the matrices of each MLP are multiplied with."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from posttrain_jax.models import attention
from posttrain_jax.models.dense import dense
from posttrain_jax.models.rotary import rotary_frequencies, rotation_at
from posttrain_jax.models.transformer import Transformer


def mlp_inputs(model: Transformer, tokens: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Computes the inputs of all MLP matrices on rows that are padded on the right.

  L layers, D width, F hidden width of the MLP.

  Args:
    model: a transformer with stacked layers.
    tokens: int [B, T].

  Returns:
    (what `gate` and `up` get, [L, B, T, D]; what `down` gets, [L, B, T, F]; hidden states after the final norm
    [B, T, D], as `models.forward.row_hidden` gives them), all in compute dtype.
  """
  config = model.config
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  rotation = rotation_at(positions, rotary_frequencies(config.head_dim, config.rope_theta, config.rope_scaling))
  attend = attention.causal()
  graph, stack = nnx.split(model.blocks)

  def layer(graph, x, params):
    block = nnx.merge(graph, params)
    attended, _ = block.attention(block.attention_norm(x), rotation, attend, None)
    x = x + attended
    given = block.mlp_norm(x)
    hidden = block.mlp.hidden(given)
    return x + dense(hidden, block.mlp.down[...].astype(hidden.dtype)), (given, hidden)

  x = model.embed[...].astype(config.compute_dtype)[tokens]
  x, (given, hidden) = jax.lax.scan(functools.partial(layer, graph), x, stack)
  return given, hidden, model.final_norm(x)
