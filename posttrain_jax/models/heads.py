"""Computes scalar scores of tokens, in place of logits, for reward models and value models.

score_t = w · h_t + b, where h_t is the hidden state after the final norm, which has seen tokens 0 .. t. Scores are
float32 in every compute dtype. A reward is the score at a text's last real token, which is found by the text's length
and never by a token id.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.models.transformer import Transformer, abstract_transformer
from posttrain_jax.parallel.sharding import constrain


def token_scores(model: Transformer, hidden: jax.Array) -> jax.Array:
  """Computes the score of each token, given itself and the tokens before it.

  Args:
    model: a transformer with a scalar head.
    hidden: [..., T, D], hidden states (`models.forward`).

  Returns:
    float32 [..., T].
  """
  weights_D = constrain(model.score[...].astype(jnp.float32), "hidden")
  scores = jnp.einsum("...d,d->...", hidden.astype(jnp.float32), weights_D, precision=jax.lax.Precision.HIGHEST)
  return scores + model.score_bias[...].astype(jnp.float32)


def row_scores(model: Transformer, tokens: jax.Array, lengths: jax.Array) -> jax.Array:
  """Computes the score of each row: the one at its last real token.

  Args:
    model: a transformer with a scalar head.
    tokens: int [B, T], padded on the right.
    lengths: int [B], at least 1.

  Returns:
    float32 [B].
  """
  scores_BxT = token_scores(model, row_hidden(model, tokens))
  return jnp.take_along_axis(scores_BxT, lengths[:, None] - 1, axis=1)[:, 0]


def to_scalar_head(
  config: TransformerConfig, params: nnx.State, *, seed: int, zero: bool = False
) -> tuple[TransformerConfig, nnx.State]:
  """Replaces a language model's output head by a scalar head.

  A model that has a scalar head already stays unchanged, unless `zero` is set. Weights are drawn from N(0, 1 / (D + 1))
  (Stiennon et al., 2009.01325); the bias is 0.

  Args:
    config: the transformer.
    params: its parameters. They are shared with the result, not copied; an untied output head is left out.
    seed: seed of the head's weights.
    zero: sets the weights to 0 instead, those of an existing scalar head too, so that every score is 0 at first (value
      models).

  Returns:
    (config, parameters).
  """
  if config.scalar_head and not zero:
    return config, params
  has_output = not (config.tied or config.scalar_head)
  config = dataclasses.replace(config, scalar_head=True)
  _, abstract = abstract_transformer(config)
  weights = jnp.zeros((config.embed_dim,), jnp.float32)
  if not zero:
    weights = jax.random.normal(jax.random.key(seed), weights.shape) * (config.embed_dim + 1) ** -0.5
  params = jax.tree.map(lambda leaf: leaf, params)  # another tree of the same arrays
  params["score"] = abstract["score"].replace(weights)
  params["score_bias"] = abstract["score_bias"].replace(jnp.zeros((), jnp.float32))
  if has_output:
    del params["head"]
  return config, params


def shift_scores(params: nnx.State, amount: float | jax.Array) -> nnx.State:
  """Adds a number to every score.

  InstructGPT (2203.02155) shifts scores so that their mean over demonstrations is 0.

  Args:
    params: parameters of a transformer with a scalar head. All but the bias are shared with the result, not copied.
    amount: the number to add, a scalar.

  Returns:
    The parameters with the new bias.
  """
  params = jax.tree.map(lambda leaf: leaf, params)  # another tree of the same arrays
  params["score_bias"] = params["score_bias"].replace(params["score_bias"][...] + amount)
  return params
