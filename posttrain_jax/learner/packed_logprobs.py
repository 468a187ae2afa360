"""Computes the logprobs of packed answers under given parameters."""

import jax
from flax import nnx

from posttrain_jax import losses
from posttrain_jax.learner.packed_rows import PackedRows
from posttrain_jax.losses.vocabulary import Ranges
from posttrain_jax.models.forward import packed_hidden


def packed_logprobs(
  graph: nnx.GraphDef,
  params: nnx.State,
  rows: PackedRows,
  *,
  temperature: float = 1.0,
  chunk: int,
  entropy: bool = False,
  shards: int = 1,
) -> jax.Array | tuple[jax.Array, jax.Array]:
  """Returns logprobs of the answers' tokens, and on request the entropies where they were drawn.

  Args:
    graph: graph of the stacked transformer.
    params: the parameters.
    rows: of one micro-batch.
    temperature: at which the tokens were drawn.
    chunk: most tokens whose logits exist at a time on a device.
    entropy: whether entropies are returned, too.
    shards: parts into which the row axis is split over the mesh.

  Returns:
    float32 [R, N], or two such arrays; arbitrary where no answer token is predicted.
  """
  hidden, unembedding, absent = packed_states(graph, params, rows)
  return losses.logprobs.token_logprobs(
    hidden,
    unembedding,
    rows.targets,
    temperature=temperature,
    absent=absent,
    chunk=chunk,
    entropy=entropy,
    shards=shards,
    needed=rows.predicting.max(),
  )


def packed_states(graph: nnx.GraphDef, params: nnx.State, rows: PackedRows) -> tuple[jax.Array, jax.Array, Ranges]:
  """Returns the states [R, N, D] that predict the tokens, the unembedding, and absent ids."""
  model = nnx.merge(graph, params)
  return packed_hidden(model, rows.tokens, rows.positions, rows.spans), model.unembedding(), model.config.absent_ids
