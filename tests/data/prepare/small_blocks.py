"""Screens a few texts without rules, for tests of what follows."""

import json
import pathlib
from collections.abc import Sequence

from posttrain_jax.data.prepare.block_files import BlockFiles
from posttrain_jax.data.prepare.documents import InputSettings, TextPiece, Unreadable
from posttrain_jax.data.prepare.screening import Screening
from posttrain_jax.data.prepare.signatures import NearSettings

NEAR = NearSettings(threshold=0.8, words=3, permutations=128, bands=32)


def written(
  folder: pathlib.Path, texts: Sequence[str], *, sizes: Sequence[int], near: NearSettings = NEAR, rules=None, samples=3
) -> BlockFiles:
  """Writes blocks of the given numbers of documents."""
  used = InputSettings(paths=("x",), field="text", separator="", longest=10**6, unreadable=Unreadable.DROP)
  screening, blocks, start = Screening(used, rules or {}, near, 0, samples), BlockFiles(folder / "blocks"), 0
  for number, size in enumerate(sizes):
    rows = "\n".join(json.dumps({"text": text}) for text in texts[start : start + size])
    blocks.write(number, screening([TextPiece(0, True, start + 1, rows.encode(), True)]))
    start += size
  blocks.finish(len(sizes))
  return blocks
