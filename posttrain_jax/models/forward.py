"""Runs training's forward passes: over rows of text, and over packed answers.

Both stop at hidden states. `losses.logprobs` and `losses.fused_loss` make the logits that are needed, in chunks. If the
mesh splits the residual stream along rows, rows are padded to a length that divides.
"""

import functools

import jax
import jax.numpy as jnp

from posttrain_jax.models import attention
from posttrain_jax.models.dropout import ResidualDropout
from posttrain_jax.models.packed_attention import packed
from posttrain_jax.models.tile_plan import Spans
from posttrain_jax.models.transformer import Transformer
from posttrain_jax.parallel.sharding import ways


def row_hidden(
  model: Transformer,
  tokens: jax.Array,
  *,
  positions: jax.Array | None = None,
  segment_ids: jax.Array | None = None,
  dropout: ResidualDropout | None = None,
) -> jax.Array:
  """Computes the hidden states of rows that are padded on the right or packed.

  Args:
    model: the transformer.
    tokens: int [B, T].
    positions: int [B, T], restarting at 0 in each packed sample; counts from 0 if None.
    segment_ids: int [B, T], the sample of a packed row that a token belongs to; None if rows are not packed.
    dropout: with a key for each of the B rows; None for no dropout.

  Returns:
    [B, T, D] in compute dtype; index t has seen tokens 0 .. t, so it predicts token t + 1.
  """
  length = tokens.shape[1]
  if positions is None:
    positions = jnp.broadcast_to(jnp.arange(length), tokens.shape)
  if extra := -length % ways("residual_length"):
    pad = functools.partial(jnp.pad, pad_width=[(0, 0), (0, extra)])
    tokens, positions = pad(tokens), pad(positions)
    segment_ids = None if segment_ids is None else pad(segment_ids, constant_values=-1)
  hidden, _ = model(tokens, positions, attention.causal(segment_ids), dropout=dropout)
  return hidden[:, :length] if extra else hidden


def packed_hidden(model: Transformer, tokens: jax.Array, positions: jax.Array, spans: Spans) -> jax.Array:
  """Computes the hidden states of packed rows of answers and prompts.

  If the mesh splits the residual stream along rows, it does so where their length divides.

  Args:
    model: the transformer.
    tokens: int [R, N].
    positions: int [R, N], of each token in its prompt and answer.
    spans: what each token attends to, int32 [R, N].

  Returns:
    [R, N, D] in compute dtype.
  """
  hidden, _ = model(tokens, positions, packed(spans))
  return hidden
