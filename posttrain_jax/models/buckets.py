"""Runs rows of any length through a compiled function in few shapes.

A batch's width is a power of two, and its number of rows follows from the width.
"""

import collections
from collections.abc import Callable, Sequence

import jax
import numpy as np

_SHORTEST = 16


def bucket(length: int) -> int:
  """Returns the width for rows of a length: a power of two, at least 16."""
  return max(_SHORTEST, 1 << (length - 1).bit_length())


def rows_per_batch(width: int, *, tokens_per_batch: int, shards: int) -> int:
  """Returns how many rows of a bucket form a batch: a multiple of `shards`."""
  return shards * max(1, tokens_per_batch // (width * shards))


def map_rows(
  function: Callable[[np.ndarray, np.ndarray], jax.Array],
  rows: Sequence[Sequence[int]],
  *,
  tokens_per_batch: int,
  shards: int = 1,
) -> list[np.ndarray]:
  """Applies a function to rows, in batches of rows of similar length.

  All batches of a bucket have one shape; the last one is filled up with rows of padding.

  Args:
    function: takes tokens int32 [B, T], padded on the right, and lengths int32 [B], at least 1; returns [B, ...].
    rows: token ids of each row, at least one id a row.
    tokens_per_batch: the most tokens B T of a call, unless one row a shard has more.
    shards: B is a multiple of it.

  Returns:
    The function's value for each row, in the order of the rows.
  """
  members = collections.defaultdict(list)
  for index, row in enumerate(rows):
    members[bucket(len(row))].append(index)
  found = {}
  for width, indices in sorted(members.items()):
    count = rows_per_batch(width, tokens_per_batch=tokens_per_batch, shards=shards)
    for start in range(0, len(indices), count):
      batch = indices[start : start + count]
      tokens, lengths = np.zeros((count, width), np.int32), np.ones((count,), np.int32)
      for i, index in enumerate(batch):
        tokens[i, : len(rows[index])], lengths[i] = rows[index], len(rows[index])
      values = np.asarray(function(tokens, lengths))
      found |= {index: values[i] for i, index in enumerate(batch)}
  return [found[index] for index in range(len(rows))]
