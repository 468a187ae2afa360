"""Lays the examples of a supervised update into as few rows as they need.

A row may hold one example and much padding, and an update would pay for its width. So examples share rows of the same
width, and rows with examples come first. Micro-batches without an example are not computed.

B rows, T tokens.
"""

import dataclasses

import jax
import numpy as np

from posttrain_jax.learner.data_batches import SupervisedRows
from posttrain_jax.learner.row_plan import plan_rows


def dense_rows(batch: SupervisedRows) -> tuple[SupervisedRows, int]:
  """Returns the examples in as few rows as they need, and the number of these rows.

  They are the first rows of a batch of the same shape. If no row is saved, all stay where they are. `draws` counts the
  rows of batches, whatever they hold, so it always stays.

  Args:
    batch: host arrays [B, T]. The examples of a row have the numbers 1, 2, ... and stand one after the other.
  """
  count, width = batch.tokens.shape
  begins = (np.diff(batch.segment_ids, axis=1, prepend=0) != 0) & (batch.segment_ids > 0)
  first = np.flatnonzero(begins)  # tokens that begin an example
  if not len(first):
    return batch, 0
  lengths = np.add.reduceat((batch.segment_ids > 0).reshape(-1), first, dtype=np.int64)
  plan = plan_rows(np.zeros_like(first), lengths[:, None], tokens=width, most_answers=width, most_rows=len(first))
  if len(plan) >= np.count_nonzero(begins.any(axis=1)):
    return batch, count
  dense = jax.tree.map(np.zeros_like, batch)
  for row, pieces in enumerate(plan):
    at = 0
    for number, example in enumerate((piece.prompt for piece in pieces), 1):
      place = (row, slice(at, at + lengths[example]))
      taken = slice(first[example], first[example] + lengths[example])
      for name in ("tokens", "mask", "positions", "weights"):
        getattr(dense, name)[place] = getattr(batch, name).reshape(-1)[taken]
      dense.segment_ids[place] = number
      at += lengths[example]
  return dataclasses.replace(dense, draws=batch.draws), len(plan)
