import dataclasses
import os

import numpy as np
import pytest

from posttrain_jax import atomic_files
from posttrain_jax.data.prepare.block_files import BlockFiles
from posttrain_jax.data.prepare.screening import ScreenedBlock


def block(count, seed=0):
  draw = np.random.default_rng(seed)
  return ScreenedBlock(
    texts=draw.integers(0, 255, 10 * count).astype(np.uint8),
    sizes=np.full(count, 10),
    files=np.zeros(count, np.int64),
    lines=np.arange(count),
    exact=draw.integers(0, 2**63, (count, 2)).astype(np.uint64),
    bands=draw.integers(0, 2**63, (4, count)).astype(np.uint64),
    signatures=draw.integers(0, 2**31, (count, 8)).astype(np.uint32),
    counts={"read": {"documents": count, "bytes": 1}},
    samples={"length": [{"text": "ö", "line": 1}]},
  )


def test_what_is_written_is_read(tmp_path):
  blocks, written = BlockFiles(tmp_path / "blocks"), [block(3, 1), block(0, 2), block(2, 3)]
  for number, each in enumerate(written):
    assert not blocks.has(number)
    blocks.write(number, each)
    assert blocks.has(number)
  assert blocks.count is None and list(blocks.each("sizes")) == []
  blocks.finish(3)
  names = [field.name for field in dataclasses.fields(ScreenedBlock)]
  for found, expected in zip(BlockFiles(tmp_path / "blocks").each(*names), written, strict=True):
    for name, value in zip(names, found, strict=True):
      np.testing.assert_equal(value, getattr(expected, name))
  assert [len(sizes) for (sizes,) in blocks.each("sizes", first=1, end=3)] == [0, 2]


def test_a_block_that_is_half_written_is_not_there(tmp_path, monkeypatch):
  blocks = BlockFiles(tmp_path / "blocks")

  def killed(*args):
    raise KeyboardInterrupt

  monkeypatch.setattr(atomic_files.os, "replace", killed)
  with pytest.raises(KeyboardInterrupt):
    blocks.write(0, block(3))
  assert os.listdir(tmp_path / "blocks") and not blocks.has(0)
