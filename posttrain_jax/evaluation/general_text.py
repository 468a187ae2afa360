"""Measures what MLPs get as inputs on general text, and how far logits moved there."""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from posttrain_jax.assembly.model import Policy
from posttrain_jax.compiled_once import made_once
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.models.mlp_inputs import mlp_inputs
from posttrain_jax.models.transformer import abstract_transformer

_ROWS = 8  # texts of a batch

Tokens = Sequence[int] | np.ndarray


def second_moments(policy: Policy, texts: Sequence[Tokens]) -> tuple[dict[str, np.ndarray], int]:
  """Computes K = Σ hᵀh of the inputs of each MLP matrix over all tokens.

  It is summed in float64 on the host, so that directions in which nothing moves are told from small ones.

  Args:
    policy: the model.
    texts: as token ids.

  Returns:
    ("input", what gate and up get, [L, D, D], and "hidden", what down gets, [L, F, F], both float64; tokens).
  """
  program, params, sums, count = _inputs_program(policy.model), policy.params, {}, 0
  for tokens, mask in _batches(texts):
    found = dict(zip(("input", "hidden"), program(params, tokens)))
    count += int(mask.sum())
    for name, each in found.items():
      rows = np.asarray(each.astype(jnp.float32))[:, mask].astype(np.float64)  # [L, tokens, width]
      sums[name] = sums.get(name, 0.0) + np.einsum("lti,ltj->lij", rows, rows, optimize=True)
  return sums, count


def logit_moves(policy: Policy, reference: Policy, texts: Sequence[Tokens]) -> np.ndarray:
  """Computes how far each text's logits are from those of another model.

  Args:
    policy: the model, of the same sizes and tokens as the reference.
    reference: what it was trained from.
    texts: as token ids.

  Returns:
    float [texts], the largest absolute difference over all tokens and words.
  """
  program, found = _moves_program(policy.model), []
  for tokens, mask in _batches(texts):
    found.append(np.asarray(program(policy.params, reference.params, tokens, mask)))
  return np.concatenate(found)[: len(texts)]


def _batches(texts: Sequence[Tokens]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields token ids and a mask of what is text, [_ROWS, T]; empty rows fill up."""
  width = max(map(len, texts))
  for start in range(0, len(texts), _ROWS):
    tokens, mask = np.zeros((_ROWS, width), np.int32), np.zeros((_ROWS, width), bool)
    for row, text in enumerate(texts[start : start + _ROWS]):
      tokens[row, : len(text)], mask[row, : len(text)] = text, True
    yield tokens, mask


@made_once
def _inputs_program(model: TransformerConfig):
  graph, _ = abstract_transformer(model)
  return jax.jit(lambda params, tokens: mlp_inputs(nnx.merge(graph, params), tokens)[:2])


@made_once
def _moves_program(model: TransformerConfig):
  graph, _ = abstract_transformer(model)

  def logits(params, tokens):
    merged = nnx.merge(graph, params)
    return (row_hidden(merged, tokens) @ merged.unembedding()).astype(jnp.float32)

  def moves(params, reference, tokens, mask):
    # One row at a time, since a batch's logits of a large vocabulary need much memory.
    def one(row):
      moved = jnp.abs(logits(params, row[0][None]) - logits(reference, row[0][None])).max(axis=-1)[0]
      return jnp.where(row[1], moved, 0.0).max()

    return jax.lax.map(one, (tokens, mask))

  return jax.jit(moves)
