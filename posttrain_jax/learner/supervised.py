"""Computes the next-token loss of rows of examples, on the tokens to be learned."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax import losses
from posttrain_jax.compiled_once import made_once
from posttrain_jax.learner.batch_learner import BatchLearner
from posttrain_jax.learner.data_batches import SupervisedRows
from posttrain_jax.learner.dense_rows import dense_rows
from posttrain_jax.learner.optimizer import OptimizerConfig
from posttrain_jax.learner.packed_rows import Packed
from posttrain_jax.learner.update import LossFunction, LossOutput
from posttrain_jax.learner.update import micro_batches as cut
from posttrain_jax.losses import masking
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.dropout import ResidualDropout
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.models.transformer import Transformer, abstract_transformer
from posttrain_jax.parallel.memory import Kept
from posttrain_jax.parallel.sharding import batch_shards
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class DropoutRates:
  """Describes residual dropout while training; the rate is linear from layer to layer.

  Attributes:
    first: rate at the bottom layer, in [0, 1).
    last: rate at the last layer, in [0, 1).
  """

  first: float
  last: float

  def __post_init__(self):
    """Checks the rates.

    Raises:
      InputError: if one is not in [0, 1).
    """
    if not (0 <= self.first < 1 and 0 <= self.last < 1):
      raise InputError(f"dropout: rates first {self.first} and last {self.last}, expected both in [0, 1)")


@made_once
def make_loss(
  graph: nnx.GraphDef, *, logprob_chunk: int, shards: int = 1, dropout: DropoutRates | None = None, seed: int = 0
) -> LossFunction[SupervisedRows, jax.Array]:
  """Makes the loss of one micro-batch: the weighted mean of negative log-likelihoods.

  loss = Σ w_t (−log π(token t | tokens before it)) / Σ w_t

  Packed examples do not see each other. The denominator Σ w_t is that of the whole update (`total_weight`), so the
  losses of micro-batches add up to the same number however the update is cut.

  Args:
    graph: graph of the stacked transformer.
    logprob_chunk: most tokens whose logits exist at a time on a device.
    shards: parts into which the row axis is split over the mesh.
    dropout: rates; None for no dropout.
    seed: of dropout. A row's dropout depends on it and on `batch.draws`, not on the rows around it.
  """

  def loss_function(params: nnx.State, batch: SupervisedRows, total: jax.Array) -> LossOutput:
    dropped = None
    if dropout is not None and (dropout.first or dropout.last):
      keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(seed), batch.draws)
      dropped = ResidualDropout(keys, dropout.first, dropout.last)
    model = nnx.merge(graph, params)
    hidden, targets, mask = _predictions(model, batch, dropped)
    weights = masking.divide_or_zero(jnp.where(mask, jnp.roll(batch.weights, -1, axis=1), 0.0), total)
    loss, (logprobs, _) = losses.fused_loss.summed_token_loss(
      lambda logprobs, _, data: data[0] * losses.supervised.next_token_nll(logprobs, data[1]),
      hidden,
      model.unembedding(),
      targets,
      (weights, mask),
      absent=model.config.absent_ids,
      chunk=logprob_chunk,
      shards=shards,
    )
    largest = losses.supervised.next_token_nll(logprobs, mask).max()
    return LossOutput(loss=loss, sums={"tokens": mask.sum()}, maxima={"nll_max": largest})

  return loss_function


def total_weight(batch: SupervisedRows) -> jax.Array:
  """Sums a batch's weights, by which `make_loss` divides.

  The first token of a row has no weight. The batch may be cut into micro-batches.
  """
  return batch.weights[..., 1:].sum()


def pack_rows(parts: int, batch: SupervisedRows) -> Packed[SupervisedRows, jax.Array]:
  """Cuts an update into micro-batches, of which those with an example are computed.

  How examples are laid into rows depends on the batch alone. So the loss does not depend on the number of parts,
  dropout included.

  Args:
    parts: M, divides B. Micro-batches have B / M rows.
    batch: host arrays [B, T].
  """
  dense, used = dense_rows(batch)
  size = len(batch.tokens) // parts
  return Packed(cut(dense, parts), count=np.int32(-(-used // size)), totals=np.float32(total_weight(batch)))


def make_learner(
  model: TransformerConfig,
  optimizer: OptimizerConfig,
  mesh: Mesh,
  *,
  logprob_chunk: int,
  dropout: DropoutRates | None,
  dropout_seed: int,
  micro_batches: int,
  max_skipped_updates: int,
  seed: int,
  params: nnx.State | None = None,
  abstract: bool = False,
  optimizer_kept: Kept = Kept.DEVICE,
) -> BatchLearner:
  """Makes the learner of demonstrations.

  Args:
    model: the transformer, layers stacked.
    optimizer: how to minimise the loss.
    mesh: the devices that compute.
    logprob_chunk: as in `make_loss`.
    dropout: rates; None for no dropout.
    dropout_seed: of dropout.
    micro_batches: parts in which an update's gradient is computed; those without an example are left out.
    max_skipped_updates: updates in a row that are not finite which end the training.
    seed: of random parameters.
    params: parameters to start from; random ones if None.
    abstract: make the programs and no array, to be compiled only.
    optimizer_kept: in whose memory the optimiser's state is between updates.
  """
  graph, _ = abstract_transformer(model)
  shards = batch_shards(mesh)
  return BatchLearner(
    model,
    make_loss(graph, logprob_chunk=logprob_chunk, shards=shards, dropout=dropout, seed=dropout_seed),
    functools.partial(pack_rows, micro_batches),
    optimizer,
    mesh,
    max_skipped_updates=max_skipped_updates,
    seed=seed,
    params=params,
    abstract=abstract,
    optimizer_kept=optimizer_kept,
  )


@made_once
def make_sums(
  graph: nnx.GraphDef, *, logprob_chunk: int, shards: int = 1
) -> Callable[[nnx.State, SupervisedRows], tuple[jax.Array, jax.Array]]:
  """Makes the sums for held-out data.

  They are (params, batch) to (sum of negative log-likelihoods in nats, number of tokens). Every learned token counts 1,
  whatever its weight in training. There is no dropout. The arguments are those of `make_loss`.
  """

  def sums(params: nnx.State, batch: SupervisedRows) -> tuple[jax.Array, jax.Array]:
    model = nnx.merge(graph, params)
    hidden, targets, mask = _predictions(model, batch)
    logprobs = losses.logprobs.token_logprobs(
      hidden, model.unembedding(), targets, absent=model.config.absent_ids, chunk=logprob_chunk, shards=shards
    )
    return losses.supervised.next_token_nll(logprobs, mask).sum(), mask.sum()

  return sums


def _predictions(
  model: Transformer, batch: SupervisedRows, dropout: ResidualDropout | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns hidden states [B, T, D], next tokens [B, T] and which are learned."""
  hidden = row_hidden(model, batch.tokens, positions=batch.positions, segment_ids=batch.segment_ids, dropout=dropout)
  # Hidden state t predicts token t + 1. Shifting the targets instead of cutting off the last column keeps T even.
  targets, mask = jnp.roll(batch.tokens, -1, axis=1), jnp.roll(batch.mask, -1, axis=1).at[:, -1].set(False)
  return hidden, targets, mask
