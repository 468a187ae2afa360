import json
import os

import pytest

from posttrain_jax.labelling.event_log import EventLog, read_events
from posttrain_jax.runs.disk_failure import DiskFailure
from posttrain_jax.types import InputError


@pytest.fixture
def path(tmp_path):
  return tmp_path / "events.jsonl"


def test_events_come_back_in_order(path):
  assert read_events(path) == []
  with EventLog(path) as log:
    log.append({"n": 1, "text": "line\nbreak é\u2028"})
    log.append({"n": 2})
  with EventLog(path) as log:
    assert [event["n"] for event in log.events] == [1, 2]
    log.append({"n": 3})
    assert [event["n"] for event in read_events(path)] == [1, 2, 3]
  assert path.read_bytes().count(b"\n") == 3


@pytest.mark.parametrize("torn", [b'{"n": 2', b'{"n": 2}', b"\0\0\0"])
def test_what_was_not_written_whole_is_cut_off(path, torn):
  path.write_bytes(b'{"n": 1}\n' + torn)
  assert read_events(path) == [{"n": 1}]
  with EventLog(path) as log:
    assert log.events == [{"n": 1}]
    log.append({"n": 3})
  assert path.read_bytes() == b'{"n": 1}\n{"n": 3}\n'


@pytest.mark.parametrize("line", [b"{", b"[1]", b""])
def test_a_whole_line_that_is_no_event_is_an_error(path, line):
  path.write_bytes(b'{"n": 1}\n' + line + b'\n{"n": 2}\n')
  with pytest.raises(InputError, match=r"events.jsonl:2: .*expected an event of a study"):
    EventLog(path)
  with pytest.raises(InputError, match=r"events.jsonl:2: "):
    EventLog(path)  # the lock of the first was released


def test_one_server_has_the_log(path):
  with EventLog(path), pytest.raises(InputError, match="in use by another process"):
    EventLog(path)
  EventLog(path).close()


def test_an_event_that_cannot_be_written_leaves_nothing(path, monkeypatch):
  write = os.write
  with EventLog(path) as log:
    log.append({"n": 1})
    monkeypatch.setattr(os, "write", lambda file, line: write(file, line[:5]))
    with pytest.raises(DiskFailure, match=r"events.jsonl: .*part of the row"):
      log.append({"n": 2})

    def full(file, line):
      raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DiskFailure, match="No space left on device"):
      log.append({"n": 2})
    monkeypatch.setattr(os, "write", write)
    log.append({"n": 3})
  assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [1, 3]


def test_an_event_is_on_disk_before_append_returns(path, monkeypatch):
  done = []
  with EventLog(path) as log:
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: done.append(path.read_bytes()) or fsync(file))
    log.append({"n": 1})
  assert done == [b'{"n": 1}\n']
