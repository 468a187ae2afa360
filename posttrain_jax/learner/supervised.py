"""The supervised learner: next-token loss on rows of one or several examples, on the tokens to be learned only."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from posttrain_jax import losses
from posttrain_jax.learner.update import LossFunction, LossOutput
from posttrain_jax.losses import masking
from posttrain_jax.models.dropout import ResidualDropout
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.models.transformer import Transformer
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
    model = nnx.merge(graph, params)
    hidden, targets, mask = _predictions(model, batch, dropped)
    weights = masking.divide_or_zero(jnp.where(mask, jnp.roll(batch.weights, -1, axis=1), 0.0), total)
    loss, (logprobs, _) = losses.token_loss.token_loss(
      lambda logprobs, _, data: data[0] * losses.supervised.next_token_nll(logprobs, data[1]),
      hidden,
      model.unembedding(),
      targets,
      (weights, mask),
      chunk=logprob_chunk,
      shards=shards,
    )
    largest = losses.supervised.next_token_nll(logprobs, mask).max()
    return LossOutput(loss=loss, sums={"tokens": mask.sum()}, maxima={"nll_max": largest})

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
    model = nnx.merge(graph, params)
    hidden, targets, mask = _predictions(model, batch)
    logprobs = losses.logprobs.token_logprobs(hidden, model.unembedding(), targets, chunk=logprob_chunk, shards=shards)
    return losses.supervised.next_token_nll(logprobs, mask).sum(), mask.sum()

  return sums


def _predictions(
  model: Transformer, batch: Any, dropout: ResidualDropout | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Hidden states [B, T, D], the tokens after each [B, T], and bool [B, T], True where that token is learned."""
  hidden = row_hidden(model, batch.tokens, positions=batch.positions, segment_ids=batch.segment_ids, dropout=dropout)
  # Hidden state t predicts token t + 1. Shifting the targets instead of cutting off the last column keeps T even.
  targets, mask = jnp.roll(batch.tokens, -1, axis=1), jnp.roll(batch.mask, -1, axis=1).at[:, -1].set(False)
  return hidden, targets, mask
