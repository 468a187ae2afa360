"""The supervised learner: next-token loss on rows of one or several examples, on the tokens to be learned only."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from posttrain_jax import losses
from posttrain_jax.learner.update import LossFunction, LossOutput
from posttrain_jax.models.forward import row_hidden


def make_loss(graph: nnx.GraphDef, *, logprob_chunk: int, shards: int = 1) -> LossFunction:
  """The loss of one micro-batch: negative log-likelihood over the tokens to be learned, mean over the whole update's.

  The batch is a `data.supervised.SupervisedBatch`; packed examples do not see each other.

  Args:
    graph: graph of the stacked transformer.
    logprob_chunk: most tokens whose logits exist at a time on a device.
    shards: parts into which the row axis is split over the mesh.
  """

  def loss_function(params: nnx.State, batch: Any, total_tokens: jax.Array) -> LossOutput:
    model = nnx.merge(graph, params)
    hidden = row_hidden(model, batch.tokens, positions=batch.positions, segment_ids=batch.segment_ids)
    # Hidden state t predicts token t + 1. Shifting the targets instead of cutting off the last column keeps T even.
    targets, mask = jnp.roll(batch.tokens, -1, axis=1), jnp.roll(batch.mask, -1, axis=1).at[:, -1].set(False)
    logprobs = losses.logprobs.token_logprobs(hidden, model.unembedding(), targets, chunk=logprob_chunk, shards=shards)
    nll = losses.supervised.next_token_nll(logprobs, mask)
    loss = losses.aggregate.token_mean(nll, mask, denominator=total_tokens)
    return LossOutput(loss=loss, sums={"tokens": mask.sum()}, maxima={"nll_max": nll.max()})

  return loss_function
