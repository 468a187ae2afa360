"""Computes the reward model's loss, and makes the learner that minimises it.

All pairs of a prompt's ranked answers are one element of a batch (InstructGPT, arXiv:2203.02155).
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax import losses
from posttrain_jax.compiled_once import made_once
from posttrain_jax.learner.batch_learner import BatchLearner
from posttrain_jax.learner.data_batches import ComparedAnswers
from posttrain_jax.learner.optimizer import OptimizerConfig
from posttrain_jax.learner.update import LossFunction, LossOutput
from posttrain_jax.models import heads
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer


@made_once
def make_loss(graph: nnx.GraphDef, *, centering: float) -> LossFunction[ComparedAnswers, dict[str, jax.Array]]:
  """Makes the loss of one micro-batch: Bradley-Terry, mean over a prompt's pairs, then over prompts.

  The mean over prompts is that of the whole update (`totals`). A prompt runs once for all its answers; each answer's
  reward is read after its last token. There is no dropout.

  Args:
    graph: graph of a stacked transformer with a scalar head.
    centering: η of the penalty on the squared sum of a pair's rewards; 0 for none.
  """

  def loss_function(params: nnx.State, batch: ComparedAnswers, totals: dict[str, jax.Array]) -> LossOutput:
    scores = answer_scores(graph, params, batch)  # [N, K]
    loss = losses.preference.ranked_bradley_terry(scores, batch.preferred, margin=batch.margins, centering=centering)
    differences = scores[:, :, None] - scores[:, None, :]
    won = jnp.sum(jnp.where(batch.preferred, (jnp.sign(differences) + 1) / 2, 0))  # a tie is half a win
    margin = jnp.sum(jnp.where(batch.preferred, differences, 0))
    real = (batch.lengths > 0) & (batch.index >= 0)[:, None]
    return LossOutput(
      loss=loss.sum() / totals["prompts"],
      sums={"accuracy": won / totals["pairs"], "margin": margin / totals["pairs"], "pairs": batch.preferred.sum()},
      maxima={"reward_abs_max": jnp.max(jnp.where(real, jnp.abs(scores), 0))},
    )

  return loss_function


def totals(batch: ComparedAnswers) -> dict[str, jax.Array]:
  """Counts an update's denominators: prompts with a pair, and pairs; each at least 1."""
  pairs = batch.preferred.sum(axis=(-2, -1))
  return {"prompts": jnp.maximum((pairs > 0).sum(), 1), "pairs": jnp.maximum(pairs.sum(), 1)}


def answer_scores(graph: nnx.GraphDef, params: nnx.State, batch: ComparedAnswers) -> jax.Array:
  """Returns the rewards of all answers: float32 [N, K]; arbitrary for missing answers."""
  model = nnx.merge(graph, params)
  return heads.answer_scores(model, batch.prompts, batch.prompt_lengths, batch.answers, batch.lengths)


def make_learner(
  model: TransformerConfig,
  optimizer: OptimizerConfig,
  mesh: Mesh,
  *,
  centering: float,
  micro_batches: int,
  max_skipped_updates: int,
  seed: int,
  params: nnx.State | None = None,
  abstract: bool = False,
) -> BatchLearner:
  """Makes the learner of a reward model.

  Args:
    model: a transformer with a scalar head, layers stacked.
    optimizer: how to minimise the loss.
    mesh: where.
    centering: as in `make_loss`.
    micro_batches: parts in which an update's gradient is computed.
    max_skipped_updates: updates in a row that are not finite which end the training.
    seed: of random parameters.
    params: parameters to start from; random ones if None.
    abstract: make the programs and no array, to be compiled only.
  """
  graph, _ = abstract_transformer(model)
  return BatchLearner(
    model,
    make_loss(graph, centering=centering),
    totals,
    optimizer,
    mesh,
    micro_batches=micro_batches,
    max_skipped_updates=max_skipped_updates,
    seed=seed,
    params=params,
    abstract=abstract,
  )
