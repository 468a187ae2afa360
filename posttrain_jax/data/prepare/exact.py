"""Finds documents with the same text, except for spaces around it."""

import pathlib

import numpy as np

from posttrain_jax.data.prepare.block_files import BlockFiles
from posttrain_jax.data.prepare.partitions import CAPACITY, groups, parts

KEPT = -1  # stands for the earlier document of one that has none


def mark_exact(blocks: BlockFiles, count: int, folder: pathlib.Path, *, capacity: int = CAPACITY) -> np.ndarray:
  """Finds for each document the first one with the same text.

  Texts are compared by 128 bits of BLAKE2b.

  Args:
    blocks: the screened blocks.
    count: number of their documents, N.
    folder: gets files while this runs.
    capacity: keys that are held at a time.

  Returns:
    int64 [N], the position of that document among all; KEPT for the first one itself.
  """
  earlier = np.full(count, KEPT, np.int64)
  for keys, documents in parts((exact for (exact,) in blocks.each("exact")), count, folder, capacity=capacity):
    for group in groups(keys, documents):
      earlier[group[1:]] = group[0]
  return earlier
