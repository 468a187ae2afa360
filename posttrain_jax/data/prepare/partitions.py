"""Brings equal keys of all documents together, in memory that does not grow with their number.

Keys that are equal are in the same part. If there are more keys than a part may have, they are first written to a file
for each part, by the key's value.
"""

import pathlib
from collections.abc import Iterable, Iterator

import numpy as np

CAPACITY = 2**17  # keys of a part
_MOST_PARTS = 256  # files that are open at the same time; a part has more keys if these are too few


def parts(
  keys: Iterable[np.ndarray], count: int, folder: pathlib.Path, *, capacity: int = CAPACITY
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields keys with their documents, part by part.

  Args:
    keys: for one block of documents after another uint64 [D] or [D, 2].
    count: number of keys, or more.
    folder: gets files while this runs.
    capacity: keys of a part, more or less.

  Yields:
    (keys, the positions of their documents among all, int64 [D], increasing).
  """
  number = min(-(-count // capacity), _MOST_PARTS)
  if number <= 1:
    found = list(keys)
    if found:
      yield np.concatenate(found), np.arange(sum(map(len, found)))
    return
  paths = [folder / f"part-{part:05}" for part in range(number)]
  width = _spill(keys, paths)
  for path in paths:
    records = np.fromfile(path, np.uint64).reshape(-1, width + 1)
    path.unlink()
    yield (records[:, 0] if width == 1 else records[:, :width]), records[:, width].astype(np.int64)


def groups(keys: np.ndarray, documents: np.ndarray) -> Iterator[np.ndarray]:
  """Yields the documents of each key that several have, in increasing order."""
  columns = _columns(keys).T
  order = np.lexsort((documents, *columns))
  changes = np.zeros(len(order), bool)
  changes[:1] = True
  for column in columns:
    changes[1:] |= column[order][1:] != column[order][:-1]
  first = np.flatnonzero(changes)
  ends = np.append(first[1:], len(order))
  several = ends - first > 1
  for start, end in zip(first[several].tolist(), ends[several].tolist()):
    yield documents[order[start:end]]


def _spill(keys: Iterable[np.ndarray], paths: list[pathlib.Path]) -> int:
  """Writes records of keys and documents, and returns the columns of a key."""
  start, width = 0, 1
  files = [open(path, "wb") for path in paths]  # noqa: SIM115 (closed below)
  try:
    for block in keys:
      columns = _columns(block)
      width = columns.shape[1]
      records = np.column_stack([columns, np.arange(start, start + len(block), dtype=np.uint64)])
      which = (columns[:, 0] % np.uint64(len(paths))).astype(np.int64)
      for part in np.unique(which).tolist():
        records[which == part].tofile(files[part])
      start += len(block)
  finally:
    for file in files:
      file.close()
  return width


def _columns(keys: np.ndarray) -> np.ndarray:
  return keys[:, None] if keys.ndim == 1 else keys
