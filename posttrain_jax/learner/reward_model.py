"""Computes the reward model's loss, and makes the learner that minimises it.

All pairs of a prompt's ranked answers are one element of a batch (InstructGPT, arXiv:2203.02155), and its answers share
a row (`learner.packing`). A reward is read after an answer's last token, so each answer has one more place in a row.

N prompts, K answers of each. M micro-batches, R rows, C prompts of a row.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax import losses
from posttrain_jax.compiled_once import made_once
from posttrain_jax.learner.batch_learner import BatchLearner
from posttrain_jax.learner.data_batches import ComparedAnswers
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.optimizer import OptimizerConfig
from posttrain_jax.learner.packed_rows import Packed, PackedRows, to_sums
from posttrain_jax.learner.packing import AnswerTokens, Packing, sizes_of
from posttrain_jax.learner.update import LossFunction, LossOutput
from posttrain_jax.learner.value import packed_values
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PackedRankings:
  """Holds ranked answers in packed rows.

  Attributes:
    rows: what the model reads. Answer k to a row's prompt c is its answer c · K + k.
    last: bool [M, R, N], True at the place that has read a whole answer.
    given: bool [M, R, C, K], True for answers that are there.
    preferred: bool [M, R, C, K, K], see `ComparedAnswers`.
    margins: float32 [M, R, C, K, K], see `ComparedAnswers`.
    probabilities: float32 [M, R, C, K, K], see `ComparedAnswers`; None where all preferences are certain.
  """

  rows: PackedRows
  last: jax.Array
  given: jax.Array
  preferred: jax.Array
  margins: jax.Array
  probabilities: jax.Array | None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RankingTotals:
  """Holds counts of a whole update, each at least 1.

  Attributes:
    prompts: int32 [], prompts with a pair.
    pairs: int32 [].
  """

  prompts: jax.Array
  pairs: jax.Array


def read_answers(batch: ComparedAnswers) -> AnswerTokens:
  """Returns answers with one more place each, which has read all tokens.

  Answers that are missing, and rows that only fill up the batch (index −1), have no place.
  """
  given = (batch.lengths > 0) & (batch.index >= 0)[:, None]
  answers = np.pad(batch.answers, [(0, 0), (0, 0), (0, 1)])
  mask = given[..., None] & (np.arange(answers.shape[-1]) <= batch.lengths[..., None])
  return AnswerTokens(batch.prompts, batch.prompt_lengths, answers, mask)


def pack_rankings(division: Division, mesh: Mesh, batch: ComparedAnswers) -> Packed[PackedRankings, RankingTotals]:
  """Packs the host arrays of an update.

  Args:
    division: tokens of a micro-batch.
    mesh: where the update runs.
    batch: prompts with their ranked answers.
  """
  answers = read_answers(batch)
  tokens, shards = division.row_tokens(mesh), division.shards(mesh)
  packing = Packing(answers, sizes_of(answers, tokens=tokens, shards=shards, whole_answers=False, together=True))
  last = np.arange(answers.mask.shape[-1]) == batch.lengths[..., None]
  parts = PackedRankings(
    rows=packing.rows,
    last=packing.pack(answers.mask & last),
    given=packing.pack_groups(answers.mask.any(-1)),
    preferred=packing.pack_groups(batch.preferred),
    margins=packing.pack_groups(batch.margins),
    probabilities=None if batch.probabilities is None else packing.pack_groups(batch.probabilities),
  )
  pairs = batch.preferred.sum(axis=(-2, -1))
  totals = RankingTotals(prompts=np.int32(max((pairs > 0).sum(), 1)), pairs=np.int32(max(pairs.sum(), 1)))
  return Packed(parts, count=np.int32(packing.count), totals=totals)


@made_once
def make_loss(graph: nnx.GraphDef, *, centering: float) -> LossFunction[PackedRankings, RankingTotals]:
  """Makes the loss of one micro-batch: Bradley-Terry, mean over a prompt's pairs, then over prompts.

  The mean over prompts is that of the whole update (`totals`). A prompt runs once for all its answers; each answer's
  reward is read after its last token. There is no dropout.

  Args:
    graph: graph of a stacked transformer with a scalar head.
    centering: η of the penalty on the squared sum of a pair's rewards; 0 for none.
  """

  def loss_function(params: nnx.State, batch: PackedRankings, totals: RankingTotals) -> LossOutput:
    rewards = jnp.where(batch.last, packed_values(graph, params, batch.rows), 0)
    rewards = to_sums(batch.rows, rewards).reshape(-1, batch.given.shape[-1])  # [R · C, K]
    given, preferred, margins = (x.reshape(-1, *x.shape[2:]) for x in (batch.given, batch.preferred, batch.margins))
    soft = None if batch.probabilities is None else batch.probabilities.reshape(preferred.shape)
    loss = losses.preference.ranked_bradley_terry(
      rewards, preferred, margin=margins, centering=centering, probability=soft
    )
    differences = rewards[:, :, None] - rewards[:, None, :]
    won = jnp.sum(jnp.where(preferred, (jnp.sign(differences) + 1) / 2, 0))  # a tie is half a win
    margin = jnp.sum(jnp.where(preferred, differences, 0))
    return LossOutput(
      loss=loss.sum() / totals.prompts,
      sums={"accuracy": won / totals.pairs, "margin": margin / totals.pairs, "pairs": preferred.sum()},
      maxima={"reward_abs_max": jnp.max(jnp.where(given, jnp.abs(rewards), 0))},
    )

  return loss_function


def make_learner(
  model: TransformerConfig,
  optimizer: OptimizerConfig,
  mesh: Mesh,
  division: Division,
  *,
  centering: float,
  max_skipped_updates: int,
  seed: int,
  params: nnx.State | None = None,
  abstract: bool = False,
) -> BatchLearner:
  """Makes the learner of a reward model.

  Args:
    model: a transformer with a scalar head, layers stacked.
    optimizer: how to minimise the loss.
    mesh: the devices that compute.
    division: prompts of an update, and tokens of a micro-batch.
    centering: as in `make_loss`.
    max_skipped_updates: updates in a row that are not finite which end the training.
    seed: of random parameters.
    params: parameters to start from; random ones if None.
    abstract: make the programs and no array, to be compiled only.
  """
  graph, _ = abstract_transformer(model)
  return BatchLearner(
    model,
    make_loss(graph, centering=centering),
    functools.partial(pack_rankings, division, mesh),
    optimizer,
    mesh,
    max_skipped_updates=max_skipped_updates,
    seed=seed,
    params=params,
    abstract=abstract,
  )
