import gzip
import json

import pytest

from posttrain_jax.data.prepare import inputs
from posttrain_jax.data.prepare.documents import InputSettings, Unreadable, documents
from posttrain_jax.types import InputError


def settings(paths, **changes):
  usual = dict(field="text", separator="", longest=10_000, unreadable=Unreadable.DROP)
  return InputSettings(paths=tuple(map(str, paths)), **usual | changes)


def rows(*texts):
  return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def write(path, content):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
  return path


@pytest.fixture
def raw(tmp_path):
  write(tmp_path / "raw" / "b.jsonl", rows("b1", "b2"))
  write(tmp_path / "raw" / "a" / "x.txt.gz", b"x text")
  write(tmp_path / "raw" / "c.JSONL.gz", rows("c1"))
  write(tmp_path / "raw" / "d.parquet", b"PAR1")
  return tmp_path / "raw"


def test_a_folder_has_its_files_in_order(raw):
  found = inputs.find_files([str(raw)])
  assert [(file.name, file.rows) for file in found] == [
    ("raw/a/x.txt.gz", False),
    ("raw/b.jsonl", True),
    ("raw/c.JSONL.gz", True),
  ]


def test_files_and_patterns_come_once_in_the_order_given(raw):
  found = inputs.find_files([str(raw / "c.JSONL.gz"), str(raw / "*.jsonl"), str(raw / "**" / "*.gz")])
  assert [file.name for file in found] == ["c.JSONL.gz", "b.jsonl", "a/x.txt.gz"]


@pytest.mark.parametrize(
  ("path", "message"),
  [
    ("missing.jsonl", "missing.jsonl: no such file or folder"),
    ("*.md", "no file fits this pattern"),
    ("d.parquet", r"found a name that ends in '.parquet', expected .jsonl"),
    ("empty", "no file of raw text in this folder"),
    ("gs://bucket/x", "only paths of this machine"),
  ],
)
def test_paths_that_are_refused(raw, path, message):
  (raw / "empty").mkdir()
  with pytest.raises(InputError, match=message):
    inputs.find_files([path if "://" in path else str(raw / path)])


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("a.jsonl", b'\n{"text": "a', r"a\.jsonl:2: malformed JSON"),
    ("a.jsonl", b'[{"text": "a"}]', "seems to be one JSON array"),
    ("a.jsonl", b'{"body": "a"}\n', r"a\.jsonl:1: found the fields body, expected text in the field 'text'$"),
    ("a.jsonl", b'{"text": "\xe9"}\n', r"a\.jsonl:1: is not UTF-8 \(byte 0xe9\)"),
    ("a.txt", b"caf\xe9", r"a\.txt:1: is not UTF-8"),
    ("a.jsonl", b"\n\n", r"a\.jsonl: no document"),
    ("a.txt", b"x" * 20_000, r"a\.txt:1: is longer than 10000 bytes"),
  ],
)
def test_a_first_document_that_cannot_be_read_is_refused(tmp_path, name, content, message):
  good, bad = write(tmp_path / "0.jsonl", rows("good")), write(tmp_path / name, content)
  files = inputs.find_files([str(good), str(bad)])
  with pytest.raises(InputError, match=message):
    inputs.check_files(files, settings([good]))


def test_empty_files_of_text_are_no_documents_and_later_ones_are_not_looked_at(tmp_path):
  contents = {"a.txt": b"", "b.txt": b" \n", "c.txt": b"text", "d.txt": b"caf\xe9", "e.txt": b""}
  paths = [write(tmp_path / name, content) for name, content in contents.items()]
  files = inputs.find_files([str(tmp_path)])
  inputs.check_files(files, settings(paths))
  found = places(all_blocks(files, settings(paths)), settings(paths))
  assert [(files[file].name.rpartition("/")[2], is_bad) for file, _, _, is_bad in found] == [
    ("c.txt", False),
    ("d.txt", True),
  ]
  with pytest.raises(InputError, match=r"a\.txt: no document, expected text"):
    inputs.check_files(files[:2], settings(paths))


def test_gzip_that_ends_too_early_is_refused(tmp_path):
  path = tmp_path / "a.jsonl.gz"
  path.write_bytes(gzip.compress(rows(*map(str, range(100_000))))[:-20])
  with pytest.raises(InputError, match=r"a\.jsonl\.gz: cannot be read"):
    inputs.check_files(inputs.find_files([str(path)]), settings([path]))
  path.write_bytes(b"no gzip")
  with pytest.raises(InputError, match="cannot be read: Not a gzipped file"):
    inputs.check_files(inputs.find_files([str(path)]), settings([path]))


def test_the_digest_follows_names_and_contents(tmp_path):
  a, b = write(tmp_path / "a.txt", b"one"), write(tmp_path / "b.txt", b"two")

  def digest(*paths):
    return inputs.check_files(inputs.find_files(list(map(str, paths))), settings(paths))

  first = digest(a, b)
  assert digest(a, b) == first != digest(b, a)
  b.write_bytes(b"tw0")
  assert digest(a, b) != first


def all_blocks(files, used):
  return list(inputs.blocks(files, used))


def places(blocks, used):
  return [
    (document.file, document.line, document.text, bool(document.problem))
    for block in blocks
    for piece in block
    for document in documents(piece, used)
  ]


@pytest.mark.parametrize("size", [7, 30, 64, 10_000])
@pytest.mark.parametrize("separator", ["", "\n\n", "<|end|>\n"])
def test_blocks_have_every_document_once(tmp_path, monkeypatch, size, separator):
  """However small the blocks are, the documents are those of the whole files."""
  texts = [f"text {i}\nline {'x' * (i % 13)}" for i in range(40)]
  one = write(tmp_path / "0.jsonl", b"\xef\xbb\xbf" + rows(*texts))
  two = write(tmp_path / "1.txt.gz", (separator or "\n").join(texts).encode())
  three = write(tmp_path / "2.jsonl", rows("last").rstrip())
  files = inputs.find_files(list(map(str, (one, two, three))))
  used = settings([one], separator=separator)
  expected = places(all_blocks(files, used), used)
  assert len(expected) == (40 + (40 if separator else 1) + 1) and not any(problem for *_, problem in expected)
  assert [text for file, _, text, _ in expected if file == 0] == texts
  if separator:
    lines = two_lines(texts, separator)
    assert [line for file, line, _, _ in expected if file == 1] == lines
  monkeypatch.setattr(inputs, "BLOCK_BYTES", size)
  found = all_blocks(files, used)
  assert places(found, used) == expected
  if size < 10_000:
    assert len(found) > 10
    longest = max(map(len, [*rows(*texts).split(b"\n"), two.read_bytes() if not separator else b""]))
    most = size + max(longest, 2000 if not separator else 0) + size
    assert max(sum(len(piece.content) for piece in block) for block in found) <= most


def two_lines(texts, separator):
  """Counts the line on which each text begins."""
  found, line = [], 1
  for text in texts:
    found.append(line)
    line += (text + separator).count("\n")
  return found


@pytest.mark.parametrize("size", [50, 1000, 50_000])
@pytest.mark.parametrize("separator", ["\n\n", "<|end|>\n"])
def test_a_document_over_the_limit_is_skipped_and_the_next_one_is_not(tmp_path, monkeypatch, size, separator):
  monkeypatch.setattr(inputs, "BLOCK_BYTES", size)
  long = "z\n" * 6000 + "z"
  parts = ["a\nb", long, "c", "d", long]
  path = write(tmp_path / "a.txt", separator.join(parts).encode())
  other = write(tmp_path / "b.jsonl", rows("a", "z" * 12_000, "b"))
  used = settings([path], separator=separator)
  found = places(all_blocks(inputs.find_files([str(path), str(other)]), used), used)
  assert [(file, line, is_bad) for file, line, _, is_bad in found] == [
    *[(0, line, part == long) for line, part in zip(two_lines(parts, separator), parts)],
    (1, 1, False),
    (1, 2, True),
    (1, 3, False),
  ]
  assert [text for _, _, text, is_bad in found if not is_bad] == ["a\nb", "c", "d", "a", "b"]
