"""The supervised learner: next-token loss on rows of one or several examples, on the tokens to be learned only."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from posttrain_jax import losses
from posttrain_jax.learner.update import LossFunction, LossOutput
from posttrain_jax.models.dropout import ResidualDropout
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class DropoutRates:
  """Residual dropout while training, linear from layer to layer; both 0: none.

  Attributes:
    first: rate at the bottom layer, in [0, 1).
    last: rate at the last layer, in [0, 1).
  """

  first: float = 0.0
  last: float = 0.0

  def __post_init__(self):
    """Raises InputError on a rate that is none."""
    if not (0 <= self.first < 1 and 0 <= self.last < 1):
      raise InputError(f"dropout: rates first {self.first} and last {self.last}, expected both in [0, 1)")


def make_loss(
  graph: nnx.GraphDef, *, logprob_chunk: int, shards: int = 1, dropout: DropoutRates = DropoutRates(), seed: int = 0
) -> LossFunction:
  """The loss of one micro-batch: weighted negative log-likelihood over the weights of the whole update.

  loss = Σ w_t (−log π(token t | tokens before it)) / Σ w_t

  The batch is a `data.supervised.SupervisedBatch`; packed examples do not see each other. The total handed to it is
  Σ w_t over all micro-batches (`total_weight`), so that their losses add up to the same number however an update is
  cut.

  Args:
    graph: graph of the stacked transformer.
    logprob_chunk: most tokens whose logits exist at a time on a device.
    shards: parts into which the row axis is split over the mesh.
    dropout: rates.
    seed: of dropout; what a row drops depends on it and on `batch.draws`, not on the rows around it.
  """

  def loss_function(params: nnx.State, batch: Any, total: jax.Array) -> LossOutput:
    dropped = None
    if dropout != DropoutRates():
      keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(seed), batch.draws)
      dropped = ResidualDropout(keys, dropout.first, dropout.last)
    nll, mask = _token_losses(graph, params, batch, logprob_chunk, shards, dropped)
    weights = jnp.roll(batch.weights, -1, axis=1)
    loss = losses.aggregate.token_mean(weights * nll, mask, denominator=total)
    return LossOutput(loss=loss, sums={"tokens": mask.sum()}, maxima={"nll_max": nll.max()})

  return loss_function


def total_weight(batch: Any) -> jax.Array:
  """What `make_loss` divides by: the weights of a batch, cut into micro-batches or not; first tokens have none."""
  return batch.weights[..., 1:].sum()


def make_sums(
  graph: nnx.GraphDef, *, logprob_chunk: int, shards: int = 1
) -> Callable[[nnx.State, Any], tuple[jax.Array, jax.Array]]:
  """For held-out data: (params, batch) to the sum of negative log-likelihoods in nats and the number of tokens.

  Every learned token counts 1, whatever its weight in training. Nothing is dropped out. Arguments as in `make_loss`.
  """

  def sums(params: nnx.State, batch: Any) -> tuple[jax.Array, jax.Array]:
    nll, mask = _token_losses(graph, params, batch, logprob_chunk, shards)
    return nll.sum(), mask.sum()

  return sums


def _token_losses(
  graph: nnx.GraphDef,
  params: nnx.State,
  batch: Any,
  logprob_chunk: int,
  shards: int,
  dropout: ResidualDropout | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Losses [B, T] and mask bool [B, T] of the tokens after each position; 0 and False where none is learned."""
  model = nnx.merge(graph, params)
  hidden = row_hidden(model, batch.tokens, positions=batch.positions, segment_ids=batch.segment_ids, dropout=dropout)
  # Hidden state t predicts token t + 1. Shifting the targets instead of cutting off the last column keeps T even.
  targets, mask = jnp.roll(batch.tokens, -1, axis=1), jnp.roll(batch.mask, -1, axis=1).at[:, -1].set(False)
  logprobs = losses.logprobs.token_logprobs(hidden, model.unembedding(), targets, chunk=logprob_chunk, shards=shards)
  return losses.supervised.next_token_nll(logprobs, mask), mask
