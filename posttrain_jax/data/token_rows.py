"""Cuts files of tokens into rows for pretraining, with random access.

A row has the next T tokens of a file, so all rows but a file's last are full. Documents in a row do not attend to each
other. A document that goes on in the next row begins there anew, at position 0. The length of rows is no property of
the files: a second phase of training may cut longer rows.
"""

from collections.abc import Iterator, Sequence

import grain
import numpy as np

from posttrain_jax.data.supervised import SupervisedBatch
from posttrain_jax.data.token_files import TokenFile
from posttrain_jax.types import InputError


class TokenRows:
  """Yields endless batches in shuffled epochs, as `SupervisedBatches` does.

  Attributes:
    batch_size: B, rows of a batch.
    num_rows: rows of an epoch.
    num_examples: documents of an epoch.
    num_tokens: tokens of an epoch.
    num_learned: learned tokens of an epoch.
    longest: most tokens that attend to each other.
  """

  def __init__(self, files: Sequence[TokenFile], length: int, *, batch_size: int, seed: int, limit: int = 0):
    """Counts the rows of files.

    Args:
      files: of `token_files.tokenize`.
      length: T, tokens of a row.
      batch_size: B.
      seed: of the shuffling.
      limit: at most this many rows; 0 for all.

    Raises:
      InputError: if there are no tokens.
    """
    counts = [-(-len(file.tokens) // length) for file in files]
    if not sum(counts):
      raise InputError("corpus: no tokens, expected documents to train on and some that corpus.held_out holds out")
    self.batch_size, self._files, self._length = batch_size, files, length
    self._ends = np.cumsum(counts)
    self.num_rows = left = min(limit or sum(counts), sum(counts))
    self.num_examples = self.num_tokens = self.num_learned = self.longest = 0
    for file, count in zip(files, counts):
      used = min(len(file.tokens), left * length)
      left -= min(count, left)
      starts = np.concatenate([[0], file.ends[:-1]])
      starts = starts[starts < used]
      segments = np.union1d(starts, np.arange(0, used, length))
      self.num_examples += len(starts)
      self.num_tokens += used
      self.num_learned += used - len(segments)  # nothing comes before the first token of a segment
      self.longest = max(self.longest, int(np.diff(np.append(segments, used)).max(initial=0)))
    self._order = grain.MapDataset.range(self.num_rows).shuffle(seed=seed).repeat()

  @property
  def efficiency(self) -> float:
    """Computes the share of positions that hold a token and not padding."""
    return self.num_tokens / (self.num_rows * self._length)

  def batch(self, step: int) -> SupervisedBatch:
    """Returns the batch of a step, counted from 0."""
    draws = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
    return self._take([self._order[i] for i in draws.tolist()], draws)

  def in_order(self) -> Iterator[SupervisedBatch]:
    """Yields every row once, in the order of the files; empty rows pad the last batch."""
    for start in range(0, self.num_rows, self.batch_size):
      draws = np.arange(start, start + self.batch_size)
      yield self._take([int(row) for row in draws if row < self.num_rows], draws)

  def _take(self, rows: Sequence[int], draws: np.ndarray) -> SupervisedBatch:
    shape = (self.batch_size, self._length)
    tokens, segments, positions = (np.zeros(shape, np.int32) for _ in range(3))
    for place, row in enumerate(rows):
      found, segment, position = self._segments(row)
      tokens[place, : len(found)], segments[place, : len(found)] = found, segment
      positions[place, : len(found)] = position
    mask = (segments > 0) & (positions > 0)
    return SupervisedBatch(
      tokens=tokens,
      mask=mask,
      segment_ids=segments,
      positions=positions,
      weights=mask.astype(np.float32),
      draws=draws.astype(np.int32),
    )

  def _segments(self, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns a row's tokens, their segments from 1 on, and their positions in these."""
    number = int(np.searchsorted(self._ends, row, side="right"))
    file, first = self._files[number], int(self._ends[number - 1]) if number else 0
    start = (row - first) * self._length
    tokens = file.tokens[start : start + self._length]
    places = np.arange(start, start + len(tokens))
    documents = np.searchsorted(file.ends, places, side="right")
    segments = documents - documents[0]
    starts = np.concatenate([[start], file.ends[documents[0] : documents[-1]]])  # of documents within the row
    return tokens, segments + 1, places - starts[segments]
