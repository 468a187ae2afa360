"""The reward model's learner: all pairs of a prompt's ranked answers are one element (InstructGPT, 2203.02155)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from posttrain_jax import losses
from posttrain_jax.learner.update import LossFunction, LossOutput
from posttrain_jax.models import heads


def make_loss(graph: nnx.GraphDef, *, centering: float) -> LossFunction:
  """The loss of one micro-batch of comparisons: Bradley-Terry, mean over a prompt's pairs, then over prompts.

  The batch is a `data.comparison_batches.ComparisonBatch`. A prompt runs once for its answers; each is read after its
  last token. Nothing is dropped out.

  Args:
    graph: graph of a stacked transformer with a scalar head.
    centering: η of the penalty on the squared sum of a pair's rewards; 0 for none.
  """

  def loss_function(params: nnx.State, batch: Any, totals: dict[str, jax.Array]) -> LossOutput:
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


def totals(batch: Any) -> dict[str, jax.Array]:
  """What an update's sums are divided by: prompts with a pair, and pairs; at least 1 each."""
  pairs = batch.preferred.sum(axis=(-2, -1))
  return {"prompts": jnp.maximum((pairs > 0).sum(), 1), "pairs": jnp.maximum(pairs.sum(), 1)}


def answer_scores(graph: nnx.GraphDef, params: nnx.State, batch: Any) -> jax.Array:
  """Rewards of all answers of a `ComparisonBatch`: float32 [N, K]; those of missing answers mean nothing."""
  model = nnx.merge(graph, params)
  return heads.answer_scores(model, batch.prompts, batch.prompt_lengths, batch.answers, batch.lengths)
