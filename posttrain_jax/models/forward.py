"""Runs training's forward passes: over rows of text, over packed answers, and over groups of answers.

All stop at hidden states. `losses.logprobs` and `losses.fused_loss` make the logits that are needed, in chunks. If the
mesh splits the residual stream along rows, rows are padded to a length that divides.
"""

import functools

import jax
import jax.numpy as jnp
from einops import rearrange

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


def answer_hidden(
  model: Transformer,
  prompts: jax.Array,
  prompt_lengths: jax.Array,
  answers: jax.Array,
  *,
  dropout: ResidualDropout | None = None,
) -> jax.Array:
  """Computes the hidden states that predict each answer token.

  A prompt runs once for its whole group. A row is the prompt without its last token, followed by G answers. Each answer
  is shifted right by one: the last prompt token, then answer tokens 0 .. Tc - 2. So hidden state t of an answer
  predicts answer token t.

  Args:
    model: the transformer.
    prompts: int [P, Tp], padded on the right.
    prompt_lengths: int [P], at least 1.
    answers: int [P, G, Tc], padded on the right.
    dropout: with a key for each of the P prompts, shared by its answers; None for no dropout.

  Returns:
    [P, G, Tc, D] in compute dtype.
  """
  group_size, answer_length = answers.shape[1:]
  prefix_width = prompts.shape[1] - 1
  last = jnp.take_along_axis(prompts, prompt_lengths[:, None] - 1, axis=1)  # [P, 1]
  first = jnp.broadcast_to(last[:, :, None], (*answers.shape[:2], 1))
  shifted = jnp.concatenate([first, answers[..., :-1]], axis=-1)
  prefixes = prompts[:, :-1]
  if extra := -(prefix_width + group_size * answer_length) % ways("residual_length"):
    prefixes, prefix_width = jnp.pad(prefixes, [(0, 0), (0, extra)]), prefix_width + extra
  tokens = jnp.concatenate([prefixes, rearrange(shifted, "p g t -> p (g t)")], axis=1)

  in_answer = (prompt_lengths[:, None] - 1) + jnp.arange(answer_length)[None]  # [P, Tc]
  in_prompt = jnp.broadcast_to(jnp.arange(prefix_width)[None], (prompts.shape[0], prefix_width))
  positions = jnp.concatenate([in_prompt, jnp.tile(in_answer, (1, group_size))], axis=1)

  attend = attention.grouped(prompt_lengths - 1, prefix_width=prefix_width, group_size=group_size)
  hidden, _ = model(tokens, positions, attend, dropout=dropout)
  return rearrange(hidden[:, prefix_width:], "p (g t) d -> p g t d", g=group_size)
