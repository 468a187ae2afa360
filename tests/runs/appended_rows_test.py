"""Tests that rows survive whatever ends the process that appends them."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from posttrain_jax.data.prompts import read_jsonl
from posttrain_jax.runs.appended_rows import AppendedRows
from posttrain_jax.runs.disk_failure import DiskFailure
from posttrain_jax.types import InputError

WRITER = """
import pathlib, sys
from posttrain_jax.runs.appended_rows import AppendedRows
rows = AppendedRows(pathlib.Path(sys.argv[1]))
for number in range(10**9):
  rows.append({"number": number, "text": "x" * 5000})
  print(number, flush=True)
"""


def test_rows_are_appended_to_those_that_are_there(tmp_path):
  path = tmp_path / "rows.jsonl"
  for number in range(2):
    with AppendedRows(path) as rows:
      rows.append({"number": number, "text": "line\nline\u2028"})
  assert [row.columns["number"] for row in read_jsonl(path)] == [0, 1]
  assert path.stat().st_mode & 0o077 == 0  # what people said is not for others on the machine


@pytest.mark.parametrize("whole", [0, 1, 3])
@pytest.mark.parametrize("torn", [b"", b"{", b'{"number": 7, "te', b"x" * 200_000])
def test_a_torn_last_line_is_cut_off(whole, torn, tmp_path):
  path, lines = tmp_path / "rows.jsonl", b"".join(b'{"number": %d}\n' % n for n in range(whole))
  path.write_bytes(lines + torn)
  with AppendedRows(path) as rows:
    rows.append({"number": 100})
  assert path.read_bytes() == lines + b'{"number": 100}\n'


def test_every_row_that_was_said_to_be_written_survives_sigkill(tmp_path):
  path = tmp_path / "rows.jsonl"
  writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
  said = -1
  for line in writer.stdout:
    said = int(line)
    if said == 20:
      os.kill(writer.pid, signal.SIGKILL)
  writer.wait()
  assert said >= 20
  with AppendedRows(path):
    pass
  found = [row.columns["number"] for row in read_jsonl(path)]
  assert found == list(range(len(found))) and len(found) > said


def test_two_processes_do_not_append_to_one_file(tmp_path):
  with AppendedRows(tmp_path / "rows.jsonl"), pytest.raises(InputError, match="in use by another process"):
    AppendedRows(tmp_path / "rows.jsonl")
  with AppendedRows(tmp_path / "rows.jsonl") as rows:
    rows.append({})


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
  with pytest.raises(InputError, match=r"no/rows\.jsonl: No such file or directory, expected a file to append to"):
    AppendedRows(tmp_path / "no" / "rows.jsonl")


def test_nothing_is_left_of_a_row_that_did_not_fit(tmp_path, monkeypatch):
  path = tmp_path / "rows.jsonl"
  with AppendedRows(path) as rows:
    rows.append({"number": 1})
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, line: write(file, line[:5]))
    with pytest.raises(DiskFailure, match="a part of the row only"):
      rows.append({"number": 2})

    def full(file, line):
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DiskFailure, match="No space left"):
      rows.append({"number": 3})
    monkeypatch.setattr(os, "write", write)
    rows.append({"number": 4})
  assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [1, 4]
