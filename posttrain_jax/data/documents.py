"""Reads the documents that `experiments.prepare` wrote, in shuffled epochs.

Grain reads the shards with random access, so the only state of a stream is a position, and memory does not depend on
their size.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import grain

from posttrain_jax.local_path import local_path
from posttrain_jax.types import InputError

SHARDS = "shards.json"


@dataclasses.dataclass(frozen=True)
class Document:
  """Holds a document.

  Attributes:
    text: all of it.
    source: "FILE:LINE" in the raw text.
  """

  text: str
  source: str


def read_shards(directory: str | pathlib.Path) -> tuple[list[pathlib.Path], Mapping[str, Any]]:
  """Returns the shards of a finished preparation, and what their list says.

  Raises:
    InputError: if the preparation is not finished, or if a shard is missing or has another size than it had.
  """
  folder = local_path(directory)
  file = folder / SHARDS
  try:
    listed = json.loads(file.read_text("utf-8"))
  except (OSError, ValueError):
    raise InputError(
      f"{folder}: no readable {SHARDS}, expected the workdir of a finished experiments.prepare"
    ) from None
  paths = [folder / shard["file"] for shard in listed["shards"]]
  for path, shard in zip(paths, listed["shards"]):
    size = path.stat().st_size if path.exists() else None
    if size != shard["bytes"]:
      found = "is missing" if size is None else f"has {size} bytes"
      raise InputError(f"{path}: {found}, expected {shard['bytes']} bytes as {SHARDS} says")
  return paths, listed


class DocumentStream:
  """Draws documents in shuffled epochs.

  Attributes:
    position: number of documents drawn so far. It is the whole state; set it to resume.
  """

  def __init__(self, directory: str | pathlib.Path, seed: int, position: int = 0):
    """Opens the shards of a workdir of `experiments.prepare`.

    Raises:
      InputError: as `read_shards`.
    """
    paths, _ = read_shards(directory)
    self.position = position
    self._source = grain.sources.ArrayRecordDataSource(list(map(str, paths)))
    self._order = grain.MapDataset.range(len(self._source)).shuffle(seed=seed).repeat()  # each epoch has its own order

  def __len__(self) -> int:
    """Counts the documents of an epoch."""
    return len(self._source)

  def __getitem__(self, index: int) -> Document:
    """Returns a document by its place in the shards."""
    return Document(**json.loads(self._source[index]))

  def next(self, n: int) -> list[Document]:
    """Draws the next n documents; one draw may reach into the following epochs."""
    places: Sequence[int] = [self._order[self.position + i] for i in range(n)]
    self.position += n
    return [self[place] for place in places]
