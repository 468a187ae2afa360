"""Packs the answers of an update into rows of a fixed number of tokens.

An update computes micro-batches of R rows with N tokens each, one row on each batch shard, and as many of them as the
answers need. A row begins with answers, each shifted right by one: the last prompt token, then the answer without its
last token. So the state at a place predicts the answer token of that place, and the places that predict stand at the
row's start. The prompts without their last tokens end the row; padding is between.

An answer is as long as its last counted token. What comes after it, and answers without a counted token, have no part
in any loss, so they are left out.

P prompts, G answers a prompt, Tp prompt tokens, Tc answer tokens, M micro-batches at most, R rows, N tokens.
"""

import dataclasses
from typing import Generic, Protocol, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posttrain_jax.learner.row_plan import most_rows, plan_rows
from posttrain_jax.models.tile_plan import Spans
from posttrain_jax.parallel.sharding import batch_sharding


class Answers(Protocol):
  """Describes what is packed; `PolicyBatch` and `ValueBatch` have these fields, as host arrays.

  Attributes:
    prompts: int32 [P, Tp], padded on the right.
    prompt_lengths: int32 [P].
    answers: int32 [P, G, Tc], padded on the right.
    mask: bool [P, G, Tc], True on tokens that count.
  """

  prompts: np.ndarray
  prompt_lengths: np.ndarray
  answers: np.ndarray
  mask: np.ndarray


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
    parts: arrays [M, R, ...].
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


@dataclasses.dataclass(frozen=True)
class PackedSizes:
  """Holds the sizes of packed arrays.

  Attributes:
    micro_batches: M, the most that an update of these sizes may need.
    shards: R.
    tokens: N.
    answers: A, most answers of a row.
  """

  micro_batches: int
  shards: int
  tokens: int
  answers: int


def sizes_of(batch: Answers, *, tokens: int, shards: int, whole_answers: bool) -> PackedSizes:
  """Returns the sizes for a batch of one update; they depend on its padded shape alone.

  Args:
    batch: its P, G, Tp and Tc are the largest of a run.
    tokens: N; holds the longest prompt with the longest answer.
    shards: R.
    whole_answers: whether arrays [R, A, Tc] will be made (`to_answers`). Then A is bounded, so that they are at most
      about four times as large as the rows.
  """
  (prompts, group, length), prefix = batch.answers.shape, batch.prompts.shape[1] - 1
  assert tokens >= prefix + length, (tokens, prefix, length)  # `division.tokens_or_default` refuses it
  answers = prompts * group
  if whole_answers:
    answers = min(answers, max(group, 4 * tokens // length))
  rows = most_rows(prompts=prompts, group=group, prefix=prefix, length=length, tokens=tokens, most_answers=answers)
  return PackedSizes(-(-rows // shards), shards, tokens, answers)


class Packing:
  """Says where the answers of an update lie in packed rows; all on the host.

  Attributes:
    sizes: of the packed arrays.
    count: micro-batches that hold an answer; the others are never computed.
    rows: what a model reads.
  """

  def __init__(self, batch: Answers, sizes: PackedSizes):
    """Places the answers of a batch.

    Args:
      batch: host arrays of one update.
      sizes: from `sizes_of`.
    """
    self.sizes, self._shape = sizes, batch.mask.shape
    lengths = np.where(batch.mask.any(-1), batch.mask.shape[-1] - batch.mask[..., ::-1].argmax(-1), 0)
    prefixes = np.asarray(batch.prompt_lengths) - 1
    plan = plan_rows(
      prefixes,
      lengths,
      tokens=sizes.tokens,
      most_answers=sizes.answers,
      shards=sizes.shards,
      most_rows=sizes.micro_batches * sizes.shards,
    )
    self.count = -(-len(plan) // sizes.shards)
    shape = (sizes.micro_batches * sizes.shards, sizes.tokens)
    filled = lambda value: np.full(shape, value, np.int32)  # noqa: E731
    tokens, positions, targets, answers = filled(0), filled(0), filled(0), filled(sizes.answers)
    spans = Spans(own=filled(sizes.tokens), prefix_start=filled(0), prefix_end=filled(0))
    # Of each place the index of its answer token in [P · G · Tc]; -1 where it predicts none.
    self._source = filled(-1)
    predicting = np.zeros((shape[0],), np.int32)
    for row, pieces in enumerate(plan):
      at, number = 0, 0
      behind = sizes.tokens - int(sum(prefixes[piece.prompt] for piece in pieces))
      for piece in pieces:
        p, prefix = piece.prompt, int(prefixes[piece.prompt])
        prompt = slice(behind, behind + prefix)
        tokens[row, prompt], positions[row, prompt] = batch.prompts[p, :prefix], np.arange(prefix)
        spans.own[row, prompt] = behind
        for g in piece.answers:
          length = int(lengths[p, g])
          answer = slice(at, at + length)
          tokens[row, at] = batch.prompts[p, prefix]
          tokens[row, at + 1 : at + length] = batch.answers[p, g, : length - 1]
          targets[row, answer] = batch.answers[p, g, :length]
          positions[row, answer] = prefix + np.arange(length)
          answers[row, answer] = number
          spans.own[row, answer] = at
          spans.prefix_start[row, answer], spans.prefix_end[row, answer] = behind, behind + prefix
          self._source[row, answer] = (p * self._shape[1] + g) * self._shape[2] + np.arange(length)
          at, number = at + length, number + 1
        behind += prefix
      predicting[row] = at
    cut = lambda x: x.reshape(sizes.micro_batches, sizes.shards, *x.shape[1:])  # noqa: E731
    self.rows = PackedRows(
      tokens=cut(tokens),
      positions=cut(positions),
      targets=cut(targets),
      answers=cut(answers),
      spans=jax.tree.map(cut, spans),
      predicting=cut(predicting),
      answer_shape=(sizes.answers, self._shape[2]),
    )
    self._source = cut(self._source)

  def forward(self) -> Packed[PackedRows, None]:
    """Returns what a forward pass without a loss takes."""
    return Packed(self.rows, np.int32(self.count))

  def pack(self, values: np.ndarray) -> np.ndarray:
    """Packs an array of tokens, answers or prompts.

    Args:
      values: [P, G, Tc], [P, G, 1], [P, G] or [P].

    Returns:
      [M, R, N], 0 where a place predicts nothing.
    """
    values = np.asarray(values)
    width = self._shape[2] if values.ndim == 3 and values.shape[2] == self._shape[2] else 1
    per_answer = self._shape[1] if values.ndim > 1 else 1
    index = self._source // (self._shape[2] // width) // (self._shape[1] // per_answer)
    packed = values.reshape(-1)[np.maximum(index, 0)]
    return np.where(self._source < 0, np.zeros((), values.dtype), packed)

  def unpack(self, packed: np.ndarray) -> np.ndarray:
    """Turns an array [M, R, N] back into [P, G, Tc].

    It is 0 where no place predicts the token.
    """
    values = np.zeros(self._shape, packed.dtype)
    real = self._source >= 0
    values.reshape(-1)[self._source[real]] = packed[real]
    return values


def to_answers(rows: PackedRows, packed: jax.Array) -> jax.Array:
  """Moves numbers of places to their answers.

  Args:
    rows: of one micro-batch.
    packed: [R, N].

  Returns:
    [R, A, Tc]: one answer a row, as losses that look at a whole answer need it. 0 where there is no token.
  """
  count, length = rows.answer_shape
  inside = jax.numpy.arange(packed.shape[1])[None] - rows.spans.own

  def of_row(answers, inside, values):
    return jax.numpy.zeros((count, length), values.dtype).at[answers, inside].set(values, mode="drop")

  return jax.vmap(of_row)(rows.answers, inside, packed)
