import json

import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from posttrain_jax.data.documents import Document, DocumentStream, read_shards
from posttrain_jax.types import InputError


@pytest.fixture
def prepared(tmp_path):
  (tmp_path / "shards").mkdir()
  listed, number = [], 0
  for shard, count in enumerate((4, 3)):
    path = tmp_path / "shards" / f"{shard}.array_record"
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for _ in range(count):
      writer.write(json.dumps({"text": f"tëxt {number}", "source": f"a:{number}"}, ensure_ascii=False).encode())
      number += 1
    writer.close()
    listed.append({"file": f"shards/{path.name}", "documents": count, "bytes": path.stat().st_size, "sha256": ""})
  (tmp_path / "shards.json").write_text(json.dumps({"documents": 7, "shards": listed}), "utf-8")
  return tmp_path


def test_every_epoch_has_every_document_once_in_its_own_order(prepared):
  stream = DocumentStream(prepared, seed=0)
  assert len(stream) == 7 and stream[4] == Document("tëxt 4", "a:4")
  drawn = [document.source for document in stream.next(70)]
  epochs = [tuple(drawn[start : start + 7]) for start in range(0, 70, 7)]
  assert all(sorted(epoch) == [f"a:{i}" for i in range(7)] for epoch in epochs)
  assert len(set(epochs)) == 10
  assert drawn != [document.source for document in DocumentStream(prepared, seed=1).next(70)]


def test_a_position_is_the_whole_state(prepared):
  stream = DocumentStream(prepared, seed=3)
  expected = stream.next(20)
  first = DocumentStream(prepared, seed=3)
  first.next(4)
  second = DocumentStream(prepared, seed=3, position=first.position)
  assert second.next(2) + second.next(14) == expected[4:]


def test_a_preparation_that_is_not_finished_is_refused(prepared):
  (prepared / "shards.json").unlink()
  with pytest.raises(InputError, match=r"no readable shards\.json, expected the workdir of a finished"):
    DocumentStream(prepared, seed=0)


def test_shards_that_are_not_those_of_the_list_are_refused(prepared):
  path = prepared / "shards" / "1.array_record"
  content = path.read_bytes()
  path.write_bytes(content[:-1])
  with pytest.raises(InputError, match=rf"1\.array_record: has {len(content) - 1} bytes, expected {len(content)}"):
    read_shards(prepared)
  path.unlink()
  with pytest.raises(InputError, match=r"1\.array_record: is missing"):
    read_shards(prepared)
