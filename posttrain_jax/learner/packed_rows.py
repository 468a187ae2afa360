"""Holds packed rows as programs take them, and moves numbers of places to their answers.

`learner.packing` makes them and says what a row has.

M micro-batches at most, R rows, N tokens, A answers of a row, Tc answer tokens.
"""

import dataclasses
from typing import Generic, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posttrain_jax.models.tile_plan import Spans
from posttrain_jax.parallel.sharding import batch_sharding

_LANES = 64  # partial sums of an answer


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PackedRows:
  """Holds what a model reads of packed rows.

  Arrays are [M, R, N], or [R, N] in one micro-batch.

  Attributes:
    tokens: int32, what the model reads.
    positions: int32, of each token in its prompt and answer.
    targets: int32, the answer token that a place predicts; 0 where it predicts none.
    answers: int32, number of the place's answer in its row; A where the place predicts nothing.
    spans: what each token attends to.
    predicting: int32 [M, R], places at the start of each row that predict a token.
    answer_shape: (A, Tc), most answers of a row and most tokens of an answer.
  """

  tokens: jax.Array
  positions: jax.Array
  targets: jax.Array
  answers: jax.Array
  spans: Spans
  predicting: jax.Array
  answer_shape: tuple[int, int] = dataclasses.field(metadata=dict(static=True))


Parts = TypeVar("Parts")  # a pytree of arrays [M, R, ...]
Totals = TypeVar("Totals")  # a pytree of scalars


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Packed(Generic[Parts, Totals]):
  """Holds an update in packed rows: what a program takes.

  Attributes:
    parts: arrays [M, R, ...], also of micro-batches not in use (`learner.packing` says why).
    count: int32 [], micro-batches in use, the first ones.
    totals: scalars over the whole update, by which the loss divides; None for a forward pass.
  """

  parts: Parts
  count: jax.Array
  totals: Totals | None = None


def packed_shardings(mesh: Mesh) -> Packed:
  """Returns the shardings of a `Packed`.

  Rows are split over batch shards; all devices have the rest.
  """
  everywhere = NamedSharding(mesh, PartitionSpec())
  return Packed(batch_sharding(mesh, leading=1), everywhere, everywhere)


def to_answers(rows: PackedRows, packed: jax.Array) -> jax.Array:
  """Moves numbers of places to their answers.

  Args:
    rows: of one micro-batch.
    packed: [R, N].

  Returns:
    [R, A, Tc]: one answer a row, as losses that look at a whole answer need it. 0 where there is no token.
  """
  count, length = rows.answer_shape
  inside = jnp.arange(packed.shape[1])[None] - rows.spans.own

  def of_row(answers, inside, values):
    return jnp.zeros((count, length), values.dtype).at[answers, inside].set(values, mode="drop")

  return jax.vmap(of_row)(rows.answers, inside, packed)


def to_sums(rows: PackedRows, packed: jax.Array) -> jax.Array:
  """Sums numbers of places over each answer.

  Partial sums keep the rounding of long answers small: a float32 sum of thousands of logprobs, one after the other, may
  be off by a tenth of a nat.

  Args:
    rows: of one micro-batch.
    packed: [R, N].

  Returns:
    [R, A], 0 where a row has no such answer.
  """
  lane = jnp.arange(packed.shape[1]) % _LANES

  def of_row(answers, values):
    return jnp.zeros((rows.answer_shape[0], _LANES), values.dtype).at[answers, lane].add(values, mode="drop").sum(-1)

  return jax.vmap(of_row)(rows.answers, packed)
