"""Tests that a file is replaced whole.

Neither a kill before the rename nor a reader at the same time finds a part of a file.
"""

import os
import stat

import pytest

from posttrain_jax import atomic_files


def test_a_file_is_written_and_replaced(tmp_path):
  path = tmp_path / "config.json"
  atomic_files.write_text(path, "½ old\r\n")
  assert path.read_bytes() == b"\xc2\xbd old\r\n"  # UTF-8, line ends as given
  atomic_files.write_bytes(path, b"\x00new")
  assert path.read_bytes() == b"\x00new"
  assert [entry.name for entry in tmp_path.iterdir()] == ["config.json"]


def test_rows_are_lines_of_json(tmp_path):
  path = tmp_path / "rows.jsonl"
  atomic_files.write_rows(path, ({"number": number} for number in range(2)))
  assert path.read_text("utf-8") == '{"number": 0}\n{"number": 1}\n'


def test_a_kill_before_the_rename_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / "config.json"
  atomic_files.write_text(path, "old")

  def killed(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(atomic_files.os, "replace", killed)
  with pytest.raises(KeyboardInterrupt):
    atomic_files.write_text(path, "new")
  assert path.read_text() == "old"
  monkeypatch.undo()
  atomic_files.write_text(path, "newer")  # what the kill left is no obstacle
  assert path.read_text() == "newer" and len(list(tmp_path.iterdir())) == 1


def test_the_content_is_on_disk_before_the_name_and_the_name_before_the_return(tmp_path, monkeypatch):
  done, replace = [], os.replace

  def sync(descriptor):
    found = os.fstat(descriptor)
    done.append("directory" if stat.S_ISDIR(found.st_mode) else f"file of {found.st_size} bytes")

  monkeypatch.setattr(atomic_files.os, "fsync", sync)
  monkeypatch.setattr(atomic_files.os, "replace", lambda *names: (done.append("rename"), replace(*names)))
  atomic_files.write_bytes(tmp_path / "x", b"12345")
  assert done == ["file of 5 bytes", "rename", "directory"]
