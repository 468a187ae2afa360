"""Evaluates a reward model on held-out comparisons, and shifts its rewards to demonstrations."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax import compiled_once, progress
from posttrain_jax.data.comparison_batches import ComparisonBatches
from posttrain_jax.data.preferences import Comparison
from posttrain_jax.evaluation.preference_metrics import pair_metrics
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.reward_model import read_answers
from posttrain_jax.learner.scoring import Scorer
from posttrain_jax.learner.state import TrainState
from posttrain_jax.learner.value import packed_values
from posttrain_jax.models import heads
from posttrain_jax.models.buckets import map_rows
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.sharding import batch_sharding, batch_shards

_TOKENS_PER_BATCH = 4096


class RewardEvaluation:
  """Scores held-out comparisons and demonstrations with parameters that are being trained.

  Attributes:
    scores: of the answers at the last evaluation, float32 [K] for each held-out comparison.
  """

  def __init__(
    self,
    model: TransformerConfig,
    comparisons: Sequence[Comparison],
    demonstrations: Sequence[np.ndarray],
    mesh: Mesh,
    division: Division,
    *,
    pad_id: int,
  ):
    """Lays the data out and makes the programs.

    Args:
      model: a transformer with a scalar head, layers stacked.
      comparisons: held-out; may be none.
      demonstrations: int32 [n] each, prompt and answer; may be none.
      mesh: where the parameters are.
      division: comparisons a batch, and tokens of a micro-batch.
      pad_id: fills up rows.
    """
    self._comparisons, self._demonstrations, self._mesh = comparisons, demonstrations, mesh
    self.scores: list[np.ndarray] = []
    self._batches = []
    if comparisons:
      size = division.prompts_per_update
      laid_out = ComparisonBatches(comparisons, batch_size=size, seed=0, pad_id=pad_id)
      self._batches = list(laid_out.in_order(size))
    graph, _ = abstract_transformer(model)
    rows = batch_sharding(mesh)
    self._scorer = Scorer(model, packed_values, mesh, division)
    self._rows = compiled_once.jit(
      functools.partial(_row_scores, graph),
      in_shardings=(None, rows, rows),
      out_shardings=rows,
    )

  def __call__(self, state: TrainState) -> tuple[dict[str, Any], TrainState]:
    """Evaluates, then shifts all rewards so that demonstrations average 0.

    Args:
      state: of the reward model.

    Returns:
      (metrics under `eval/heldout/`, of `evaluation.preference_metrics`, and `eval/demonstrations/`; the state with the
      shifted bias, which shares everything else).
    """
    metrics = {}
    if self._demonstrations:
      scores = self._score_rows(state.params)
      metrics |= {"eval/demonstrations/mean": float(scores.mean()), "eval/demonstrations/std": float(scores.std())}
      shifted = heads.shift_scores(state.params, np.float32(-scores.mean(dtype=np.float64)))
      state = dataclasses.replace(state, params=shifted)
    if self._comparisons:
      winners, losers, strengths, lengths, sources = self._pairs(state.params)
      found = pair_metrics(winners, losers, strengths, *lengths, clusters=sources)
      metrics |= {f"eval/heldout/{name}": value for name, value in found.items()}
    return metrics, state

  def margins(self, params: nnx.State) -> np.ndarray | None:
    """Returns the margins of held-out pairs, winner minus loser, float [N]; None without pairs."""
    if not self._comparisons:
      return None
    winners, losers, *_ = self._pairs(params)
    return winners - losers

  def _score_rows(self, params: nnx.State) -> np.ndarray:
    def scores(tokens, lengths):
      return self._rows(params, tokens, lengths)

    with jax.set_mesh(self._mesh):
      found = map_rows(
        scores, self._demonstrations, tokens_per_batch=_TOKENS_PER_BATCH, shards=batch_shards(self._mesh)
      )
    return np.array(found, np.float32)

  def _pairs(self, params: nnx.State) -> tuple[np.ndarray, np.ndarray, list, tuple[np.ndarray, np.ndarray], list]:
    """Returns all pairs: scores of winners and losers, strengths, lengths, and their comparison."""
    self.scores = []
    packings = (packing for batch in self._batches for _, packing in self._scorer.split(read_answers(batch)))
    for done, (batch, scores) in enumerate(zip(self._batches, self._scorer.each(params, packings)), 1):
      scores = np.take_along_axis(scores, batch.lengths[..., None], axis=-1)[..., 0]
      self.scores.extend(scores[batch.index >= 0])
      progress.report("batches", done, len(self._batches))
    rows = [
      (scores[i], scores[j], comparison.strength_of(i, j), len(comparison.answers[i]), len(comparison.answers[j]), n)
      for n, (comparison, scores) in enumerate(zip(self._comparisons, self.scores))
      for i, j in comparison.beaten()
    ]
    winners, losers, strengths, longer, shorter, sources = zip(*rows)
    strengths = [None if strength is None else str(strength) for strength in strengths]
    return np.array(winners), np.array(losers), strengths, (np.array(longer), np.array(shorter)), list(sources)


def _row_scores(graph: nnx.GraphDef, params: nnx.State, tokens: jax.Array, lengths: jax.Array) -> jax.Array:
  return heads.row_scores(nnx.merge(graph, params), tokens, lengths)
