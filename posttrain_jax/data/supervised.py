"""Batches for supervised fine-tuning: fixed shapes, random access, nothing to save but the step.

Examples are tokenised once. A step's batch is found from (seed, step) alone: Grain shuffles each epoch by a function of
the index, so resuming at a step neither skips nor repeats an example, also in the middle of an epoch.
"""

import dataclasses
import enum
from collections.abc import Iterable, Sequence

import grain
import jax
import numpy as np

from posttrain_jax.data.prompts import Row
from posttrain_jax.data.tokenizer import Tokenizer
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
  """

  tokens: jax.Array | np.ndarray
  mask: jax.Array | np.ndarray
  segment_ids: jax.Array | np.ndarray
  positions: jax.Array | np.ndarray


Example = tuple[np.ndarray, np.ndarray]  # tokens int32 [n], mask bool [n]; as `chat.encode_demonstration` gives it


class TooLong(enum.StrEnum):
  """What is done with an example that has more tokens than the limit."""

  ERROR = "error"
  DROP = "drop"
  CUT = "cut"  # its end is lost, and so is its end token: it teaches no ending


def encode_completions(rows: Iterable[Row], tokenizer: Tokenizer) -> list[Example]:
  """Tokenises rows of "prompt" and "completion"; the completion and the end token put after it are learned.

  The two texts are tokenised apart, as a sampled answer is: no token straddles the border. A prompt gets what the
  tokeniser puts around a text by itself (Llama 3: BOS), as prompts in RL do.

  Raises:
    InputError: a row has no such text, or its text cannot be tokenised; with the row's source.
  """
  examples = []
  for row in rows:
    texts = row.columns
    for field in ("prompt", "completion"):
      if not isinstance(texts.get(field), str):
        raise InputError(f"{row.source}: {field} is {texts.get(field)!r}, expected text")
    try:
      prompt = tokenizer.encode(texts["prompt"], add_special_tokens=True)
      completion = tokenizer.encode(texts["completion"])
    except InputError as error:
      raise InputError(f"{row.source}: {error}") from None
    if tokenizer.eos_id is not None:
      completion.append(tokenizer.eos_id)
    mask = [False] * len(prompt) + [True] * len(completion)
    examples.append((np.array(prompt + completion, np.int32), np.array(mask)))
  return examples


def limit_length(
  examples: Sequence[Example], *, max_length: int | None = None, max_learned: int | None = None, too_long: TooLong
) -> tuple[list[Example], int]:
  """Applies limits on tokens.

  Args:
    examples: (tokens, mask) each.
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
  for i, (tokens, mask) in enumerate(examples):
    end = len(tokens) if max_length is None else min(len(tokens), max_length)
    if max_learned is not None and mask.sum() > max_learned:
      end = min(end, int(np.searchsorted(np.cumsum(mask), max_learned)) + 1)
    if end < len(tokens):
      changed += 1
      if too_long == TooLong.ERROR:
        raise InputError(
          f"demonstrations: row {i} has {len(tokens)} tokens, {mask.sum()} of them to be learned; "
          f"the limits are {max_length} and {max_learned}"
        )
      if too_long == TooLong.DROP:
        continue
    if not mask[:end].any():
      raise InputError(f"demonstrations: row {i} has no token to be learned in its first {end}")
    kept.append((tokens[:end], mask[:end]))
  return kept, changed


def pack(examples: Sequence[Example], length: int) -> list[list[int]]:
  """Puts examples together into rows: each goes into the first of the rows still open that has room for it.

  Args:
    examples: (tokens, mask) each, none longer than `length`.
    length: tokens of a row.

  Returns:
    For each row the positions of its examples in `examples`.
  """
  rows, room, oldest = [], [], 0
  for i, (tokens, _) in enumerate(examples):
    row = next((r for r in range(oldest, len(rows)) if room[r] >= len(tokens)), len(rows))
    if row == len(rows):
      rows.append([])
      room.append(length)
    rows[row].append(i)
    room[row] -= len(tokens)
    oldest = max(oldest, len(rows) - _OPEN_ROWS)
  return rows


class SupervisedBatches:
  """Endless batches in shuffled epochs; the last batch of an epoch is filled up from the next one."""

  def __init__(
    self,
    examples: Sequence[Example],
    *,
    batch_size: int,
    seed: int,
    pad_id: int = 0,
    length: int | None = None,
    packed: bool = False,
  ):
    """Lays the examples out in rows.

    Args:
      examples: (tokens, mask) each.
      batch_size: B, rows of a batch.
      seed: of the shuffling.
      pad_id: fills up rows; never looked at.
      length: T; that of the longest example if None.
      packed: several examples a row, which do not see each other. Rows are made once; epochs shuffle rows.

    Raises:
      InputError: no examples, or one longer than `length`.
    """
    if not examples:
      raise InputError("demonstrations: no examples")
    longest = max(len(tokens) for tokens, _ in examples)
    length = longest if length is None else length
    if longest > length:
      raise InputError(f"demonstrations: an example has {longest} tokens, the limit is {length}")
    rows = pack(examples, length) if packed else [[i] for i in range(len(examples))]
    shape = (len(rows), length)
    self.batch_size, self.num_examples = batch_size, len(examples)
    self._rows = SupervisedBatch(
      tokens=np.full(shape, pad_id, np.int32),
      mask=np.zeros(shape, bool),
      segment_ids=np.zeros(shape, np.int32),
      positions=np.zeros(shape, np.int32),
    )
    for r, row in enumerate(rows):
      start = 0
      for segment, i in enumerate(row, 1):
        tokens, mask = examples[i]
        place = (r, slice(start, start + len(tokens)))
        # A first token has nothing before it to be predicted from.
        self._rows.tokens[place], self._rows.mask[place] = tokens, mask & (np.arange(len(mask)) > 0)
        self._rows.segment_ids[place], self._rows.positions[place] = segment, np.arange(len(tokens))
        start += len(tokens)
    self._order = grain.MapDataset.range(len(rows)).shuffle(seed=seed).repeat()

  @property
  def num_rows(self) -> int:
    """Rows of an epoch."""
    return len(self._rows.tokens)

  def batch(self, step: int) -> SupervisedBatch:
    """The batch of a step."""
    rows = [self._order[i] for i in range(step * self.batch_size, (step + 1) * self.batch_size)]
    return jax.tree.map(lambda x: x[rows], self._rows)


# Rows kept open while packing: enough for a fill of over 95 % where examples are a few times shorter than a row.
_OPEN_ROWS = 32
