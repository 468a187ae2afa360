"""Batches for supervised fine-tuning: fixed shapes, random access, nothing to save but the step.

Examples are tokenised once. A step's batch is found from (seed, step) alone: Grain shuffles each epoch by a function of
the index, so resuming at a step neither skips nor repeats an example, also in the middle of an epoch.
"""

import dataclasses
import enum
from collections.abc import Iterator, Sequence

import grain
import jax
import numpy as np

from posttrain_jax.data.encoding import Example
from posttrain_jax.types import InputError


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SupervisedBatch:
  """Rows of one or several examples, padded on the right; what `models.forward.row_hidden` takes.

  Attributes:
    tokens: int32 [B, T].
    mask: bool [B, T], True on tokens to be learned: completions with their end token, what the assistant said.
    segment_ids: int32 [B, T], 1, 2, ... by example within the row, 0 on padding.
    positions: int32 [B, T], of each token in its example; 0 on padding.
    weights: float32 [B, T], how much a token counts in the loss; 0 where `mask` is False.
    draws: int32 [B], how many rows were drawn before this one in the whole training; randomness depends on it.
  """

  tokens: jax.Array | np.ndarray
  mask: jax.Array | np.ndarray
  segment_ids: jax.Array | np.ndarray
  positions: jax.Array | np.ndarray
  weights: jax.Array | np.ndarray
  draws: jax.Array | np.ndarray


class Weighting(enum.StrEnum):
  """What weighs the same in the loss."""

  TOKEN = "token"  # every learned token, so long answers weigh more
  SEQUENCE = "sequence"  # every example, also where several are packed into a row: 1 / its number of learned tokens


class TooLong(enum.StrEnum):
  """What is done with an example that has more tokens than the limit."""

  ERROR = "error"
  DROP = "drop"
  CUT = "cut"  # its end is lost, and so is its end token: it teaches no ending


def limit_length(
  examples: Sequence[Example], *, max_length: int | None = None, max_learned: int | None = None, too_long: TooLong
) -> tuple[list[Example], int]:
  """Applies limits on tokens.

  Args:
    examples: the demonstrations.
    max_length: the most tokens of an example; None: no limit.
    max_learned: the most tokens to be learned in an example, such as the cap under which answers are sampled; None: no
      limit. An example over it is cut after the last token that is learned.
    too_long: what is done with an example over a limit.

  Returns:
    (examples, number of examples that were dropped or cut).

  Raises:
    InputError: an example is over a limit and `too_long` is ERROR; or an example has nothing to be learned within it.
  """
  kept, changed = [], 0
  for example in examples:
    tokens, mask = example.tokens, example.mask
    end = len(tokens) if max_length is None else min(len(tokens), max_length)
    if max_learned is not None and mask.sum() > max_learned:
      end = min(end, int(np.searchsorted(np.cumsum(mask), max_learned)) + 1)
    if end < len(tokens):
      changed += 1
      if too_long == TooLong.ERROR:
        raise InputError(
          f"{example.source}: {len(tokens)} tokens, {mask.sum()} of them to be learned; "
          f"the limits are {max_length} and {max_learned}"
        )
      if too_long == TooLong.DROP:
        continue
    if not mask[1:end].any():
      raise InputError(f"{example.source}: no token to be learned among the first {end}")
    kept.append(dataclasses.replace(example, tokens=tokens[:end], mask=mask[:end]))
  return kept, changed


def pack(examples: Sequence[Example], length: int) -> list[list[int]]:
  """Puts examples together into rows, the longest first: each goes into the first row that has room for it.

  First-fit decreasing. On GSM8K through SmolLM2's tokeniser (217 tokens on average, rows of 512) rows are 97 % full;
  first-fit in order of arrival with 32 open rows fills 92 %.

  Args:
    examples: the demonstrations, none longer than `length`.
    length: tokens of a row.

  Returns:
    For each row the positions of its examples in `examples`; a function of the lengths and their order alone.
  """
  sizes = np.array([len(example.tokens) for example in examples])
  rows, room = [], np.full(len(examples), length)
  for i in np.argsort(-sizes, kind="stable").tolist():
    row = int(np.argmax(room[: len(rows) + 1] >= sizes[i]))  # the one after the last is new
    if row == len(rows):
      rows.append([])
    rows[row].append(i)
    room[row] -= sizes[i]
  return rows


class SupervisedBatches:
  """Endless batches in shuffled epochs; the last batch of an epoch is filled up from the next one.

  Attributes:
    batch_size: B, rows of a batch.
    num_examples: examples of an epoch.
    num_tokens: their tokens.
    num_learned: how many of those are learned.
  """

  def __init__(
    self,
    examples: Sequence[Example],
    *,
    batch_size: int,
    seed: int,
    pad_id: int = 0,
    length: int | None = None,
    packed: bool = False,
    weighting: Weighting = Weighting.TOKEN,
  ):
    """Lays the examples out in rows.

    Args:
      examples: the demonstrations.
      batch_size: B, rows of a batch.
      seed: of the shuffling.
      pad_id: fills up rows; never looked at.
      length: T; that of the longest example if None.
      packed: several examples a row, which do not see each other. Rows are made once; epochs shuffle rows.
      weighting: what weighs the same in the loss.

    Raises:
      InputError: no examples, one longer than `length`, or one without a token to be learned.
    """
    if not examples:
      raise InputError("demonstrations: no examples")
    longest = max(examples, key=lambda example: len(example.tokens))
    length = len(longest.tokens) if length is None else length
    if len(longest.tokens) > length:
      raise InputError(f"{longest.source}: {len(longest.tokens)} tokens, the limit is {length}")
    rows = pack(examples, length) if packed else [[i] for i in range(len(examples))]
    self.batch_size, self.num_examples = batch_size, len(examples)
    self._rows = _padding(len(rows) + 1, length, pad_id)  # the last one stays empty
    for r, row in enumerate(rows):
      start = 0
      for segment, i in enumerate(row, 1):
        tokens = examples[i].tokens
        place = (r, slice(start, start + len(tokens)))
        # A first token has nothing before it to be predicted from.
        mask = examples[i].mask & (np.arange(len(tokens)) > 0)
        if not mask.any():
          raise InputError(f"{examples[i].source}: no token to be learned among {len(tokens)}")
        self._rows.tokens[place], self._rows.mask[place] = tokens, mask
        self._rows.segment_ids[place], self._rows.positions[place] = segment, np.arange(len(tokens))
        self._rows.weights[place] = mask / (mask.sum() if weighting == Weighting.SEQUENCE else 1)
        start += len(tokens)
    self.num_tokens = int((self._rows.segment_ids > 0).sum())
    self.num_learned = int(self._rows.mask.sum())
    self._order = grain.MapDataset.range(len(rows)).shuffle(seed=seed).repeat()

  @property
  def num_rows(self) -> int:
    """Rows of an epoch."""
    return len(self._rows.tokens) - 1

  @property
  def efficiency(self) -> float:
    """Share of all positions that hold a token."""
    return self.num_tokens / self._rows.tokens[:-1].size

  def batch(self, step: int) -> SupervisedBatch:
    """The batch of a step."""
    draws = np.arange(step * self.batch_size, (step + 1) * self.batch_size, dtype=np.int32)
    return self._take([self._order[i] for i in draws.tolist()], draws)

  def in_order(self) -> Iterator[SupervisedBatch]:
    """Every row once, as it was laid out; the last batch is filled up with rows of nothing."""
    for start in range(0, self.num_rows, self.batch_size):
      draws = np.arange(start, start + self.batch_size, dtype=np.int32)
      yield self._take(np.minimum(draws, self.num_rows), draws)

  def _take(self, rows: Sequence[int] | np.ndarray, draws: np.ndarray) -> SupervisedBatch:
    return dataclasses.replace(jax.tree.map(lambda x: x[rows], self._rows), draws=draws)


def _padding(rows: int, length: int, pad_id: int) -> SupervisedBatch:
  """Rows that hold no example."""
  shape = (rows, length)
  return SupervisedBatch(
    tokens=np.full(shape, pad_id, np.int32),
    mask=np.zeros(shape, bool),
    segment_ids=np.zeros(shape, np.int32),
    positions=np.zeros(shape, np.int32),
    weights=np.zeros(shape, np.float32),
    draws=np.zeros(rows, np.int32),
  )
