"""Scalar heads: one float32 score a token in place of logits, for reward models and value models.

score_t = w · h_t + b, with h_t the hidden state after the final norm, which has seen tokens 0 .. t. In float32 whatever
the compute dtype. A reward is the score at a text's last real token, found by its length and never by its token id.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import answer_hidden, row_hidden
from posttrain_jax.models.transformer import Transformer, abstract_transformer
from posttrain_jax.parallel.sharding import constrain


def token_scores(model: Transformer, hidden: jax.Array) -> jax.Array:
  """Score of each token given itself and those before it.

  Args:
    model: a transformer with a scalar head.
    hidden: [..., T, D], as `models.forward` makes them.

  Returns:
    float32 [..., T].
  """
  weights_D = constrain(model.score[...].astype(jnp.float32), "hidden")
  scores = jnp.einsum("...d,d->...", hidden.astype(jnp.float32), weights_D, precision=jax.lax.Precision.HIGHEST)
  return scores + model.score_bias[...].astype(jnp.float32)


def row_scores(model: Transformer, tokens: jax.Array, lengths: jax.Array) -> jax.Array:
  """Score of each row, read at its last real token.

  Args:
    model: a transformer with a scalar head.
    tokens: int [B, T], padded on the right.
    lengths: int [B], at least 1.

  Returns:
    float32 [B].
  """
  scores_BxT = token_scores(model, row_hidden(model, tokens))
  return jnp.take_along_axis(scores_BxT, lengths[:, None] - 1, axis=1)[:, 0]


def answer_scores(
  model: Transformer, prompts: jax.Array, prompt_lengths: jax.Array, answers: jax.Array, lengths: jax.Array
) -> jax.Array:
  """Score of each answer, read at its last token; a prompt runs once for its whole group.

  Args:
    model: a transformer with a scalar head.
    prompts: int [P, Tp], padded on the right.
    prompt_lengths: int [P], at least 1.
    answers: int [P, G, Tc], padded on the right.
    lengths: int [P, G]; an answer of 0 tokens has the score of the prompt.

  Returns:
    float32 [P, G].
  """
  # Index t of `answer_hidden` has seen the answer's tokens before t: with one more column, index `length` has seen all.
  answers = jnp.pad(answers, [(0, 0), (0, 0), (0, 1)])
  scores_PxGxT = token_scores(model, answer_hidden(model, prompts, prompt_lengths, answers))
  return jnp.take_along_axis(scores_PxGxT, lengths[..., None], axis=2)[..., 0]


def to_scalar_head(
  config: TransformerConfig, params: nnx.State, *, seed: int, zero: bool = False
) -> tuple[TransformerConfig, nnx.State]:
  """Puts a scalar head in place of a language model's output head; one that a model has already stays as it is.

  Weights are drawn from N(0, 1 / (D + 1)) (Stiennon et al., 2009.01325), the bias is 0.

  Args:
    config: the transformer.
    params: its parameters; all but an output head of its own are kept and shared, not copied.
    seed: of the head's weights.
    zero: weights of 0 instead, also in place of a scalar head, so that every score is 0 at first (value models).

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
  """Adds to every score, for instance so that demonstrations average 0 (InstructGPT, 2203.02155).

  Args:
    params: parameters of a transformer with a scalar head; all but the bias are shared, not copied.
    amount: what to add, a scalar.
  """
  params = jax.tree.map(lambda leaf: leaf, params)  # another tree of the same arrays
  params["score_bias"] = params["score_bias"].replace(params["score_bias"][...] + amount)
  return params
