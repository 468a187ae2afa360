"""Finds near duplicates among all documents, by bands of MinHash signatures (`data.prepare.signatures`).

Band after band, documents whose signatures agree in it are compared with the earlier ones that are still kept. One that
is similar to such a document is dropped. So a document is dropped only if an earlier one is similar to it, and no two
documents that are kept are similar and agree in a band. Signatures are read from disk a few at a time.
"""

import os
import pathlib
from collections.abc import Iterator

import numpy as np

from posttrain_jax import atomic_files
from posttrain_jax.data.prepare.block_files import BlockFiles
from posttrain_jax.data.prepare.exact import KEPT
from posttrain_jax.data.prepare.partitions import CAPACITY, groups, parts
from posttrain_jax.data.prepare.signatures import NearSettings

_HELD = 4096  # signatures that are held at a time


def mark_near(
  blocks: BlockFiles, earlier: np.ndarray, settings: NearSettings, folder: pathlib.Path, *, capacity: int = CAPACITY
) -> Iterator[int]:
  """Finds for each document an earlier one that is similar.

  Args:
    blocks: the screened blocks.
    earlier: int64 [N], KEPT where a document has no earlier one; those with one take no part. It gets what is found.
    settings: threshold and bands.
    folder: gets files: the signatures, and what is known after each band, from which a killed start goes on.
    capacity: keys that are held at a time.

  Yields:
    The number of bands that are done, after each.
  """
  with SignatureFile(folder / "signatures", blocks, settings.permutations) as signatures:
    states = [folder / f"earlier-{band:04}" for band in range(settings.bands)]
    done = max((band for band, state in enumerate(states) if state.exists()), default=-1)
    if done >= 0:
      earlier[:] = np.fromfile(states[done], np.int64)
    for band in range(done + 1, settings.bands):
      keys = (bands[band] for (bands,) in blocks.each("bands"))
      for part, documents in parts(keys, len(earlier), folder, capacity=capacity):
        alive = earlier[documents] == KEPT
        for group in groups(part[alive], documents[alive]):
          _mark_group(group, earlier, signatures, settings.threshold)
      atomic_files.write_bytes(states[band], earlier.tobytes())
      if band:
        states[band - 1].unlink(missing_ok=True)
      yield band + 1


class SignatureFile:
  """Reads signatures of documents by position, from one file.

  It is a context manager.
  """

  def __init__(self, path: pathlib.Path, blocks: BlockFiles, entries: int):
    """Writes the file, if it is not there in full."""
    self._path, self._bytes = path, 4 * entries
    if not path.exists():
      temporary = path.with_name(path.name + ".tmp")
      with open(temporary, "wb") as file:
        for (block,) in blocks.each("signatures"):
          block.astype("<u4").tofile(file)
        file.flush()
        os.fsync(file.fileno())
      os.replace(temporary, path)

  def __enter__(self) -> "SignatureFile":
    self._file = os.open(self._path, os.O_RDONLY)
    return self

  def __exit__(self, *exc_info) -> None:
    os.close(self._file)

  def read(self, documents: np.ndarray) -> np.ndarray:
    """Returns the signatures of documents: uint32 [D, entries]."""
    found = b"".join(os.pread(self._file, self._bytes, self._bytes * document) for document in documents.tolist())
    return np.frombuffer(found, "<u4").reshape(len(documents), -1)

  def similar(self, document: int, others: np.ndarray) -> np.ndarray:
    """Estimates the Jaccard similarity of a document with others: float64 [D]."""
    own = self.read(np.array([document]))
    found = [(self.read(others[start : start + _HELD]) == own).mean(axis=1) for start in range(0, len(others), _HELD)]
    return np.concatenate([np.zeros(0), *found])


def _mark_group(group: np.ndarray, earlier: np.ndarray, signatures: SignatureFile, threshold: float) -> None:
  group = group[earlier[group] == KEPT]
  while len(group) > 1:
    first, rest = int(group[0]), group[1:]
    is_similar = signatures.similar(first, rest) >= threshold
    earlier[rest[is_similar]] = first
    group = rest[~is_similar]
