import json

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader

from posttrain_jax.data.prepare.exact import KEPT
from posttrain_jax.data.prepare.shards import ShardPlan, ShardWriter, plan_shards
from tests.data.prepare.small_blocks import written


def test_blocks_are_grouped_until_a_shard_is_full():
  blocks = [(3, 2, 60), (1, 0, 0), (4, 1, 50), (2, 1, 100), (5, 2, 30), (6, 0, 0)]
  assert plan_shards(blocks, 100) == [
    ShardPlan("documents-00000-of-00003.array_record", 0, 3, 0, 3),
    ShardPlan("documents-00001-of-00003.array_record", 3, 4, 8, 1),
    ShardPlan("documents-00002-of-00003.array_record", 4, 6, 10, 2),
  ]


def test_blocks_without_documents_make_no_shard():
  assert plan_shards([], 100) == plan_shards([(2, 0, 0), (3, 0, 0)], 100) == []
  assert plan_shards([(0, 0, 0), (1, 1, 100), (1, 0, 0)], 100) == [
    ShardPlan("documents-00000-of-00001.array_record", 0, 2, 0, 1)
  ]


def read(path):
  return [json.loads(record) for record in ArrayRecordReader(str(path)).read_all()]


@pytest.fixture
def writer(tmp_path):
  texts = [f"täxt {i}\n" for i in range(10)]
  written(tmp_path, texts, sizes=[4, 0, 3, 3])
  earlier = np.array([0 if i in (1, 5, 9) else KEPT for i in range(10)])
  earlier.tofile(tmp_path / "earlier")
  (tmp_path / "new").mkdir()
  return ShardWriter(tmp_path / "blocks", tmp_path / "earlier", tmp_path / "new", ["raw/a.jsonl"])


def test_a_shard_has_the_kept_documents_of_its_blocks(writer, tmp_path):
  first, second = ShardPlan("a", 0, 2, 0, 3), ShardPlan("b", 2, 4, 4, 4)
  assert [writer(first), writer(second)] == [first, second]
  assert read(tmp_path / "new" / "a") == [{"text": f"täxt {i}\n", "source": f"raw/a.jsonl:{i + 1}"} for i in (0, 2, 3)]
  assert [each["text"] for each in read(tmp_path / "new" / "b")] == [f"täxt {i}\n" for i in (4, 6, 7, 8)]


def test_a_shard_has_the_same_bytes_each_time(writer, tmp_path):
  writer(ShardPlan("a", 0, 4, 0, 7))
  writer(ShardPlan("b", 0, 4, 0, 7))
  assert (tmp_path / "new" / "a").read_bytes() == (tmp_path / "new" / "b").read_bytes()


def test_a_shard_that_has_not_what_was_planned_is_an_error(writer):
  with pytest.raises(OSError, match="3 documents were written, expected 4"):
    writer(ShardPlan("a", 0, 2, 0, 4))
