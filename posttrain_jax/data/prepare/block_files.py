"""Keeps screened blocks as files, from which parts are read without the rest."""

import dataclasses
import io
import json
import pathlib
from collections.abc import Iterator

import numpy as np

from posttrain_jax import atomic_files
from posttrain_jax.data.prepare.screening import ScreenedBlock

_DONE = "done.json"
_AS_JSON = ("counts", "samples")


class BlockFiles:
  """Holds the folder of screened blocks, numbered in the order of the input."""

  def __init__(self, folder: pathlib.Path):
    """Makes the folder; what a killed start left half-written in it does not count."""
    self._folder = folder
    folder.mkdir(exist_ok=True)

  @property
  def count(self) -> int | None:
    """Returns the number of blocks; None while some are missing."""
    try:
      return json.loads((self._folder / _DONE).read_text("utf-8"))["blocks"]
    except FileNotFoundError:
      return None

  def has(self, number: int) -> bool:
    """Tells whether a block is there."""
    return self._path(number).exists()

  def write(self, number: int, block: ScreenedBlock) -> None:
    """Writes a block in one piece."""
    arrays = {field.name: getattr(block, field.name) for field in dataclasses.fields(block)}
    for name in _AS_JSON:
      arrays[name] = np.frombuffer(json.dumps(arrays[name]).encode(), np.uint8)
    content = io.BytesIO()
    np.savez(content, **arrays)
    atomic_files.write_bytes(self._path(number), content.getvalue())

  def finish(self, count: int) -> None:
    """Records that all blocks are there."""
    atomic_files.write_text(self._folder / _DONE, json.dumps({"blocks": count}))

  def read(self, number: int, *names: str) -> list:
    """Returns the named parts of a block, see `ScreenedBlock`."""
    with np.load(self._path(number)) as parts:
      return [json.loads(parts[name].tobytes()) if name in _AS_JSON else parts[name] for name in names]

  def each(self, *names: str, first: int = 0, end: int | None = None) -> Iterator[list]:
    """Yields the named parts of all blocks in order, or of some from `first` to `end`."""
    for number in range(first, (self.count or 0) if end is None else end):
      yield self.read(number, *names)

  def _path(self, number: int) -> pathlib.Path:
    return self._folder / f"{number:06}.npz"
