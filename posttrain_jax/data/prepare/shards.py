"""Writes the kept documents as shards in the array_record format, which allows random access.

A record is a JSON object: the document's text and where it comes from. A shard appears when all of it is on disk, and a
list of all shards, with digests, when all of them are.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from posttrain_jax.data.prepare.block_files import BlockFiles
from posttrain_jax.data.prepare.exact import KEPT

_OPTIONS = "group_size:1,zstd:3"  # a record can be read without its neighbours


@dataclasses.dataclass(frozen=True)
class ShardPlan:
  """Describes a shard.

  Attributes:
    name: of its file.
    first: its first block.
    end: the block after its last one.
    start: position of its first block's first document among all.
    documents: how many it will have.
  """

  name: str
  first: int
  end: int
  start: int
  documents: int


@dataclasses.dataclass(frozen=True)
class ShardWriter:
  """Writes shards; several processes may do so.

  Attributes:
    blocks: folder of the screened blocks.
    earlier: a file of int64, KEPT for the documents that are written.
    temporary: folder of the shards that are being written.
    names: of the input's files.
  """

  blocks: pathlib.Path
  earlier: pathlib.Path
  temporary: pathlib.Path
  names: Sequence[str]

  def __call__(self, plan: ShardPlan) -> ShardPlan:
    """Writes a shard into the temporary folder."""
    from array_record.python.array_record_module import ArrayRecordWriter

    blocks, path = BlockFiles(self.blocks), self.temporary / plan.name
    start, written = plan.start, 0
    writer = ArrayRecordWriter(str(path), _OPTIONS)
    for texts, sizes, files, lines in blocks.each("texts", "sizes", "files", "lines", first=plan.first, end=plan.end):
      kept = np.fromfile(self.earlier, np.int64, len(sizes), offset=8 * start) == KEPT
      ends = np.cumsum(sizes)
      for i in np.flatnonzero(kept).tolist():
        text = texts[ends[i] - sizes[i] : ends[i]].tobytes().decode()
        record = {"text": text, "source": f"{self.names[files[i]]}:{lines[i]}"}
        writer.write(json.dumps(record, ensure_ascii=False).encode())
        written += 1
      start += len(sizes)
    writer.close()
    if written != plan.documents:
      raise OSError(f"{path}: {written} documents were written, expected {plan.documents}")
    with open(path, "rb") as file:
      os.fsync(file.fileno())
    return plan


def plan_shards(blocks: Iterable[tuple[int, int, int]], shard_bytes: int) -> list[ShardPlan]:
  """Groups blocks into shards.

  Args:
    blocks: for each block its documents, those that are kept, and their bytes.
    shard_bytes: bytes of text from which on a shard is full.

  Returns:
    Plans of shards that all have documents.
  """
  spans, place, size = [], 0, 0
  first = start = documents = 0
  for number, (count, kept, text) in enumerate([*blocks, (0, 0, shard_bytes)]):
    place, documents, size = place + count, documents + kept, size + text
    if size >= shard_bytes and documents:
      spans.append((first, number + 1, start, documents))
      first, start, documents, size = number + 1, place, 0, 0
  if spans:
    last = spans.pop()
    spans.append((last[0], min(last[1], number), *last[2:]))  # the end of the list is no block
  return [ShardPlan(f"documents-{i:05}-of-{len(spans):05}.array_record", *span) for i, span in enumerate(spans)]
