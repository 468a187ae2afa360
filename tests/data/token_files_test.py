import json
import os

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from posttrain_jax.data.token_files import is_held_out, tokenize
from posttrain_jax.data.vocabularies import byte_tokenizer, word_tokenizer
from posttrain_jax.types import InputError

TEXTS = [f"text {i} ö\n" for i in range(300)] + ["an <eos> in a text", "<user>"]


def prepared(folder, *shards):
  """Writes shards as `experiments.prepare` leaves them."""
  (folder / "shards").mkdir(parents=True)
  listed = []
  for number, texts in enumerate(shards):
    path = folder / "shards" / f"documents-{number}.array_record"
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for text in texts:
      writer.write(json.dumps({"text": text, "source": "x"}).encode())
    writer.close()
    listed.append({"file": f"shards/{path.name}", "documents": len(texts), "bytes": path.stat().st_size, "sha256": ""})
  count, size = sum(map(len, shards)), sum(len(text.encode()) for texts in shards for text in texts)
  content = {"documents": count, "bytes": size, "shards": listed}
  (folder / "shards.json").write_text(json.dumps(content), "utf-8")
  return str(folder)


def texts_of(file, tokenizer):
  starts = np.concatenate([[0], file.ends])
  assert starts[-1] == len(file.tokens)
  assert (file.tokens[file.ends - 1] == tokenizer.eos_id).all()
  return [tokenizer.decode(file.tokens[start : end - 1]) for start, end in zip(starts, file.ends)]


def test_every_document_is_in_one_part_by_a_hash_of_its_text(tmp_path):
  tokenizer = byte_tokenizer()
  source = prepared(tmp_path / "prepared", TEXTS[:200], TEXTS[200:])
  train, held_out = tokenize(source, tokenizer, tmp_path / "tokens", held_out=0.2)
  found = [text for file in train for text in texts_of(file, tokenizer)]
  held = [text for file in held_out for text in texts_of(file, tokenizer)]
  assert found == [text for text in TEXTS if not is_held_out(text, 0.2)]
  assert held == [text for text in TEXTS if is_held_out(text, 0.2)]
  assert 30 < len(held) < 90
  assert train[0].tokens.dtype == np.uint16


def test_names_of_control_tokens_in_a_text_are_text(tmp_path):
  tokenizer = byte_tokenizer()
  (train,), _ = tokenize(prepared(tmp_path / "p", TEXTS[-2:]), tokenizer, tmp_path / "t", held_out=1e-9)
  assert len(train.tokens) == sum(len(text) + 1 for text in TEXTS[-2:])
  assert (train.tokens == tokenizer.eos_id).sum() == 2
  assert tokenizer.encode("<eos>") == [tokenizer.eos_id]  # and the model's own tokeniser stays as it is


def test_a_part_may_be_empty(tmp_path):
  (train,), (held_out,) = tokenize(prepared(tmp_path / "p", ["a"]), byte_tokenizer(), tmp_path / "t", held_out=1e-9)
  assert len(train.ends) == 1 and len(held_out.tokens) == len(held_out.ends) == 0


def test_a_killed_start_goes_on_with_the_next_shard(tmp_path, monkeypatch):
  source = prepared(tmp_path / "prepared", TEXTS[:100], TEXTS[100:150])
  expected = tokenize(source, byte_tokenizer(), tmp_path / "expected", held_out=0.2)
  replace = os.replace

  def killed(start, end):
    if end.name == "documents-1":
      raise KeyboardInterrupt
    replace(start, end)

  monkeypatch.setattr(os, "replace", killed)
  with pytest.raises(KeyboardInterrupt):
    tokenize(source, byte_tokenizer(), tmp_path / "t", held_out=0.2)
  monkeypatch.setattr(os, "replace", replace)
  first = (tmp_path / "t" / "documents-0").stat().st_mtime_ns
  found = tokenize(source, byte_tokenizer(), tmp_path / "t", held_out=0.2)
  assert (tmp_path / "t" / "documents-0").stat().st_mtime_ns == first
  for mine, theirs in zip([*found[0], *found[1]], [*expected[0], *expected[1]], strict=True):
    np.testing.assert_array_equal(mine.tokens, theirs.tokens)
    np.testing.assert_array_equal(mine.ends, theirs.ends)
  assert sorted(path.name for path in (tmp_path / "t").iterdir()) == ["documents-0", "documents-1"]


def test_a_text_without_tokens_is_refused(tmp_path):
  with pytest.raises(InputError, match=r"documents-0\.array_record: the model's tokeniser does not know a text"):
    tokenize(prepared(tmp_path / "p", ["known unknown"]), word_tokenizer(["known"]), tmp_path / "t", held_out=0.5)
