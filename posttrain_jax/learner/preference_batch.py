"""Holds what an update on pairs of answers trains on, and packs it.

N pairs, K answers of each, Tc answer tokens. M micro-batches, R rows, C pairs of a row: see `learner.packing`.
"""

import dataclasses

import jax
import numpy as np
from jax.sharding import Mesh

from posttrain_jax.learner.data_batches import ComparedAnswers
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.packed_rows import Packed, PackedRows
from posttrain_jax.learner.packing import AnswerTokens, Packing, sizes_of


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ReferencedBatch:
  """Holds pairs and the reference's logprobs of them, padded, on the host.

  Attributes:
    comparisons: [N, K, Tc]; answer 0 is chosen, 1 rejected, 2 mismatched. Of single answers, 0 is the one with the
      label and 1 mismatched.
    reference: float32 [N, K], sums of the reference's logprobs over counted tokens.
  """

  comparisons: ComparedAnswers
  reference: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pairs:
  """Holds numbers of pairs, [M, R, C, ...], or [R, C, ...] in one micro-batch.

  Attributes:
    real: bool [M, R, C], False where a row has no more pairs.
    counts: int32 [M, R, C, K], counted tokens of each answer.
    reference: float32 [M, R, C, K], see `ReferencedBatch`.
    desirable: bool [M, R, C], whether answer 0 is good; None if answers are compared.
  """

  real: jax.Array
  counts: jax.Array
  reference: jax.Array
  desirable: jax.Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LabelCounts:
  """Holds the numbers of an update's single answers, each at least 1: int32 [].

  Attributes:
    answers: all of them.
    desirable: those with a good label.
    undesirable: those with a bad one.
  """

  answers: jax.Array | np.ndarray
  desirable: jax.Array | np.ndarray
  undesirable: jax.Array | np.ndarray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PackedPairs:
  """Holds pairs in packed rows.

  Attributes:
    rows: what the model reads. Answer k of a row's pair c is its answer c · K + k.
    mask: bool [M, R, N], True where a token's logprob counts.
    pairs: numbers of the pairs.
  """

  rows: PackedRows
  mask: jax.Array
  pairs: Pairs


def counted_answers(comparisons: ComparedAnswers) -> AnswerTokens:
  """Returns the answers without rows that only fill up the batch (index −1)."""
  real = comparisons.index >= 0
  return AnswerTokens(
    comparisons.prompts, comparisons.prompt_lengths, comparisons.answers, comparisons.mask & real[:, None, None]
  )


def pack_pairs(
  division: Division, mesh: Mesh, batch: ReferencedBatch
) -> Packed[PackedPairs, jax.Array | np.ndarray | LabelCounts]:
  """Packs the host arrays of an update.

  Its total is the number of pairs, at least 1, or the counts of single answers by their labels.

  Args:
    division: tokens of a micro-batch.
    mesh: where the update runs.
    batch: the pairs, or single answers.
  """
  answers = counted_answers(batch.comparisons)
  tokens, shards = division.row_tokens(mesh), division.shards(mesh)
  packing = Packing(answers, sizes_of(answers, tokens=tokens, shards=shards, whole_answers=False, together=True))
  real, desirable = batch.comparisons.index >= 0, batch.comparisons.desirable
  totals = _at_least_1(real)
  if desirable is not None:
    totals = LabelCounts(totals, _at_least_1(real & desirable), _at_least_1(real & ~desirable))
  pairs = Pairs(
    real=packing.pack_groups(real),
    counts=packing.pack_groups(answers.mask.sum(-1, dtype=np.int32)),
    reference=packing.pack_groups(batch.reference),
    desirable=None if desirable is None else packing.pack_groups(desirable),
  )
  parts = PackedPairs(packing.rows, packing.pack(answers.mask), pairs)
  return Packed(parts, count=np.int32(packing.count), totals=totals)


def _at_least_1(which: np.ndarray) -> np.ndarray:
  return np.int32(max(which.sum(), 1))
