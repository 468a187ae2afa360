"""Packs the answers of an update into rows of a fixed number of tokens.

An update computes micro-batches of R rows with N tokens each, one row on each batch shard, and as many of them as the
answers need. A row begins with answers, each shifted right by one: the last prompt token, then the answer without its
last token. So the state at a place predicts the answer token of that place, and the places that predict stand at the
row's start. The prompts without their last tokens end the row; padding is between.

An answer is as long as its last counted token. What comes after it, and answers without a counted token, have no part
in any loss, so they are left out.

The arrays have room for the most micro-batches that an update of these sizes may need, and all of them go to the
devices. So one program serves every update: arrays of the number in use would compile a program for each number, and
calls of blocks of micro-batches would hand the gradient on from program to program. What is sent in vain is small. A
place takes about 54 bytes in a policy's update, so 512 answers of at most 20,480 tokens take about 9 MB on each of 64
devices. Sending them takes milliseconds, the update minutes.

P prompts, G answers a prompt, Tp prompt tokens, Tc answer tokens, M micro-batches at most, R rows, N tokens.
"""

import dataclasses
from typing import Protocol

import jax
import numpy as np

from posttrain_jax.learner.packed_rows import Packed, PackedRows
from posttrain_jax.learner.row_plan import most_rows, plan_rows
from posttrain_jax.models.tile_plan import Spans


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
class AnswerTokens:
  """Holds the arrays of `Answers` alone."""

  prompts: np.ndarray
  prompt_lengths: np.ndarray
  answers: np.ndarray
  mask: np.ndarray


@dataclasses.dataclass(frozen=True)
class PackedSizes:
  """Holds the sizes of packed arrays.

  Attributes:
    micro_batches: M, the most that an update of these sizes may need.
    shards: R.
    tokens: N.
    answers: A, most answers of a row.
    groups: C, most prompts of a row if all answers to a prompt share it; 0 if they need not.
  """

  micro_batches: int
  shards: int
  tokens: int
  answers: int
  groups: int


def sizes_of(batch: Answers, *, tokens: int, shards: int, whole_answers: bool, together: bool = False) -> PackedSizes:
  """Returns the sizes for a batch of one update; they depend on its padded shape alone.

  Args:
    batch: its P, G, Tp and Tc are the largest of a run.
    tokens: N; holds the longest prompt with the longest answer. If answers stay together, it holds G of them.
    shards: R.
    whole_answers: whether arrays [R, A, Tc] will be made (`to_answers`). Then A is bounded, so that they are at most
      about four times as large as the rows.
    together: whether all answers to a prompt share a row, for losses that compare them. Then A is C · G.
  """
  (prompts, group, length), prefix = batch.answers.shape, batch.prompts.shape[1] - 1
  # `division` refuses a smaller budget.
  assert tokens >= prefix + length * (group if together else 1), (tokens, prefix, group, length)
  answers, groups = prompts * group, 0
  if whole_answers:
    answers = min(answers, max(group, 4 * tokens // length))
  rows = most_rows(prompts=prompts, group=group, prefix=prefix, length=length, tokens=tokens, most_answers=answers)
  if together:
    groups = min(prompts, tokens)  # each has a token at least
    answers = groups * group
  return PackedSizes(-(-rows // shards), shards, tokens, answers, groups)


class Packing:
  """Says where the answers of an update lie in packed rows; all on the host.

  Attributes:
    sizes: of the packed arrays.
    count: micro-batches that hold an answer. The others are never computed; their arrays are zeros.
    rows: what a model reads.
  """

  def __init__(self, batch: Answers, sizes: PackedSizes):
    """Places the answers of a batch.

    Args:
      batch: host arrays of one update.
      sizes: from `sizes_of`.
    """
    self.sizes, self._shape, of_prompts = sizes, batch.mask.shape, batch.prompts.shape[1]
    lengths = answer_lengths(batch.mask)
    prefixes = np.asarray(batch.prompt_lengths) - 1
    plan = plan_rows(
      prefixes,
      lengths,
      tokens=sizes.tokens,
      most_answers=sizes.answers,
      shards=sizes.shards,
      most_rows=sizes.micro_batches * sizes.shards,
      together=bool(sizes.groups),
    )
    self.count = -(-len(plan) // sizes.shards)
    tokens, positions, targets, answers = self._rows(0), self._rows(0), self._rows(0), self._rows(sizes.answers)
    spans = Spans(own=self._rows(sizes.tokens), prefix_start=self._rows(0), prefix_end=self._rows(0))
    source = self._rows(-1)  # of each place the index of its answer token in [P · G · Tc]; -1 where it predicts none
    predicting = np.zeros((len(tokens),), np.int32)
    prompts, of_answers, counted = batch.prompts, batch.answers.reshape(-1), np.arange(max(of_prompts, self._shape[2]))
    lengths, prefixes = lengths.tolist(), prefixes.tolist()
    for row, pieces in enumerate(plan):
      at, number = 0, 0
      behind = sizes.tokens - sum(prefixes[piece.prompt] for piece in pieces)
      for rank, piece in enumerate(pieces):
        p, prefix = piece.prompt, prefixes[piece.prompt]
        prompt = (row, slice(behind, behind + prefix))
        tokens[prompt], positions[prompt] = prompts[p, :prefix], counted[:prefix]
        spans.own[prompt] = behind
        for g in piece.answers:
          length, first = lengths[p][g], (p * self._shape[1] + g) * self._shape[2]
          answer = (row, slice(at, at + length))
          tokens[row, at] = prompts[p, prefix]
          tokens[row, at + 1 : at + length] = of_answers[first : first + length - 1]
          targets[answer] = of_answers[first : first + length]
          positions[answer] = counted[:length] + prefix
          answers[answer] = rank * self._shape[1] + g if sizes.groups else number
          spans.own[answer], spans.prefix_start[answer], spans.prefix_end[answer] = at, behind, behind + prefix
          source[answer] = counted[:length] + first
          at, number = at + length, number + 1
        behind += prefix
      predicting[row] = at
    source = source[: self.count * sizes.shards].reshape(-1)
    self._place = np.flatnonzero(source >= 0)
    self._source = source[self._place]
    # Of each group the index of its prompt, and its row and number in it.
    groups = [(piece.prompt, row, rank) for row, pieces in enumerate(plan) for rank, piece in enumerate(pieces)]
    self._groups = np.array(groups, np.int64).reshape(-1, 3).T
    self.rows = PackedRows(
      tokens=self._cut(tokens),
      positions=self._cut(positions),
      targets=self._cut(targets),
      answers=self._cut(answers),
      spans=jax.tree.map(self._cut, spans),
      predicting=self._cut(predicting),
      answer_shape=(sizes.answers, self._shape[2]),
    )

  def _rows(self, value: int) -> np.ndarray:
    """Makes an array of all rows: a value in those that are computed, else 0."""
    rows = np.zeros((self.sizes.micro_batches * self.sizes.shards, self.sizes.tokens), np.int32)
    if value:
      rows[: self.count * self.sizes.shards] = value
    return rows

  def _cut(self, rows: np.ndarray) -> np.ndarray:
    return rows.reshape(self.sizes.micro_batches, self.sizes.shards, *rows.shape[1:])

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
    packed = np.zeros(self.rows.tokens.shape, values.dtype)
    packed.put(self._place, values.reshape(-1)[index])
    return packed

  def pack_groups(self, values: np.ndarray) -> np.ndarray:
    """Packs an array of prompts whose answers share a row.

    Args:
      values: [P, ...].

    Returns:
      [M, R, C, ...], 0 where a row has no such prompt. Answer g to prompt c of a row is its answer c · G + g.
    """
    shape = (self.sizes.micro_batches * self.sizes.shards, self.sizes.groups, *values.shape[1:])
    packed = np.zeros(shape, values.dtype)
    prompts, rows, ranks = self._groups
    packed[rows, ranks] = values[prompts]
    return self._cut(packed)

  def unpack(self, packed: np.ndarray) -> np.ndarray:
    """Turns an array [M, R, N] back into [P, G, Tc].

    It is 0 where no place predicts the token.
    """
    values = np.zeros(self._shape, packed.dtype)
    values.put(self._source, packed.reshape(-1)[self._place])
    return values


class Packings:
  """Keeps the packings of a step's answers, which several programs read.

  The answers are scored, by several models, and trained on. Use a new object for each batch.
  """

  def __init__(self):
    self._made: dict[tuple[PackedSizes, bytes], Packing] = {}

  def of(self, part: Answers, sizes: PackedSizes, rows: np.ndarray) -> Packing:
    """Returns the packing of some prompts of the batch, made when it is first asked for.

    Args:
      part: these prompts.
      sizes: from `sizes_of`.
      rows: int [P], their indices in the batch.
    """
    key = (sizes, rows.tobytes())
    if key not in self._made:
      self._made[key] = Packing(part, sizes)
    return self._made[key]


def answer_lengths(mask: np.ndarray) -> np.ndarray:
  """Counts tokens up to the last that counts: int [...] of bool [..., Tc]."""
  return np.where(mask.any(-1), mask.shape[-1] - mask[..., ::-1].argmax(-1), 0)
