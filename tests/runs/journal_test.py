import gzip
import hashlib
import json
import math
import os

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

from posttrain_jax.runs import journal
from posttrain_jax.runs.journal import Journal
from posttrain_jax.types import InputError


def write_step(log, step):
  log.write_rollouts(step, [{"prompt": "1+1=", "text": f"{step}", "logprobs": np.full(3, -0.1 * step, np.float32)}])
  log.write(step, {"loss": np.float32(1 / (step + 1)), "time/step": 0.5})


def read_events(path):
  """Reads the events of one file: length, its checksum, the record, its checksum, for each."""
  content, events = path.read_bytes(), []
  while content:
    length = int.from_bytes(content[:8], "little")
    record = content[12 : 12 + length]
    assert content[12 + length : 16 + length] == masked_crc32c(record).to_bytes(4, "little")
    events.append(event_pb2.Event.FromString(record))
    content = content[16 + length :]
  return events


def test_resumed_journal_equals_the_unbroken_one(tmp_path):
  with Journal(tmp_path / "unbroken") as log:
    for step in range(6):
      write_step(log, step)
  with Journal(tmp_path / "resumed") as log:
    for step in range(3):
      write_step(log, step)
    offsets = json.loads(json.dumps(log.offsets()))
    for step in range(3, 5):
      write_step(log, step)
  with open(tmp_path / "resumed" / "metrics.jsonl", "ab") as file:
    file.write(b'{"step": 5, "lo')  # killed while writing
  (tmp_path / "resumed" / "rollouts" / "step_000005.jsonl.tmp").write_text("{")
  with Journal(tmp_path / "resumed", offsets) as log:
    assert log.offsets() == offsets
    assert len(list((tmp_path / "resumed" / "rollouts").iterdir())) == 3
    for step in range(3, 6):
      write_step(log, step)
  for name in ["metrics.jsonl", *(f"rollouts/step_{step:06d}.jsonl" for step in range(6))]:
    assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()


def test_stored_groups_are_cut_back_with_the_rest(tmp_path):
  groups = b"as packed" * 9
  with Journal(tmp_path) as log:
    write_step(log, 1)
    log.write_groups(1, groups)
    offsets = log.offsets()
    log.write_groups(2, groups)
    write_step(log, 2)
  (tmp_path / "rollouts" / "step_000003.groups.safetensors.gz.tmp").write_bytes(b"\x1f")  # killed while writing
  first, second = (tmp_path / "rollouts" / f"step_00000{step}.groups.safetensors.gz" for step in (1, 2))
  before = first.read_bytes()
  assert before == second.read_bytes()  # no time, no name: the same groups make the same file
  Journal(tmp_path, offsets).close()
  assert {path.name for path in (tmp_path / "rollouts").iterdir()} == {"step_000001.jsonl", first.name}
  assert first.read_bytes() == before
  assert gzip.decompress(before) == groups and len(before) < len(groups)


def test_without_a_checkpoint_the_journal_starts_empty(tmp_path):
  with Journal(tmp_path) as log:
    write_step(log, 0)
  with Journal(tmp_path) as log:
    assert log.offsets() == {"metrics_bytes": 0, "metrics_sha256": hashlib.sha256().hexdigest(), "step": -1}
  assert (tmp_path / "metrics.jsonl").read_bytes() == b""
  assert not list((tmp_path / "rollouts").iterdir())


def test_a_lost_journal_is_an_error(tmp_path):
  with Journal(tmp_path) as log:
    write_step(log, 0)
    offsets = log.offsets()
  (tmp_path / "metrics.jsonl").write_text("")
  with pytest.raises(InputError, match=r"metrics.jsonl: found 0 bytes, expected at least the checkpoint's \d+"):
    Journal(tmp_path, offsets)


@pytest.mark.parametrize(
  ("old", "new", "said"),
  [
    (b'{"step": 1, "loss": 0.5', b'{"step": 1, "loss": 0.7', "a name or a number was changed"),
    (b'{"step": 1, "loss"', b'{"step": 1, "lors"', "a name or a number was changed"),
    (b'{"step": 1, ', b'{"step": 1; ', "line 2 is not a record of a step"),
    (b'{"step": 1, ', b'{"step": 9, ', "line 3 has step 2 after step 9"),
    (b'{"step": 1, ', b'{"step": \xb1, ', "line 2 is not a record of a step"),
    (b'}\n{"step": 1', b'}\x0b{"step": 1', "line 1 is not a record of a step"),
  ],
)
def test_a_changed_byte_is_noticed_and_named(tmp_path, old, new, said):
  with Journal(tmp_path) as log:
    for step in range(3):
      write_step(log, step)
    offsets = log.offsets()
    write_step(log, 3)
  file = tmp_path / "metrics.jsonl"
  assert file.read_bytes().count(old) == 1
  file.write_bytes(file.read_bytes().replace(old, new))
  before = file.read_bytes()
  with pytest.raises(InputError, match=rf"metrics.jsonl: {said}; the first \d+ bytes are not what was written"):
    Journal(tmp_path, offsets)
  assert file.read_bytes() == before


def test_damage_after_the_checkpoint_is_cut_off(tmp_path):
  with Journal(tmp_path) as log:
    write_step(log, 0)
    offsets = log.offsets()
    write_step(log, 1)
  (tmp_path / "metrics.jsonl").write_bytes((tmp_path / "metrics.jsonl").read_bytes()[:-3] + b"\xff\xff\n")
  with Journal(tmp_path, offsets) as log:
    write_step(log, 1)
    again = log.offsets()
  Journal(tmp_path, again).close()  # the digest went on from the checkpoint's


def test_writing_reads_nothing_back(tmp_path, monkeypatch):
  with Journal(tmp_path, tensorboard=False) as log:
    write_step(log, 0)
    monkeypatch.setattr(log, "_metrics", NoReading(log._metrics))
    for step in range(1, 4):
      write_step(log, step)
      digest = hashlib.sha256((tmp_path / "metrics.jsonl").read_bytes()).hexdigest()
      assert log.offsets()["metrics_sha256"] == digest


class NoReading:
  def __init__(self, file):
    self._file = file

  def __getattr__(self, name):
    assert not name.startswith("read")
    return getattr(self._file, name)


def test_strays_in_rollouts_are_ignored_with_one_warning(tmp_path, caplog):
  with Journal(tmp_path) as log:
    write_step(log, 1)
    offsets = log.offsets()
    write_step(log, 2)
  for name in ("step_abc.jsonl", "notes.txt"):
    (tmp_path / "rollouts" / name).write_text("")
  (tmp_path / "rollouts" / "step_000007.jsonl").mkdir()
  with caplog.at_level("WARNING", "absl"):
    Journal(tmp_path, offsets).close()
  (warning,) = (record.getMessage() for record in caplog.records)
  assert "ignored notes.txt, step_000007.jsonl, step_abc.jsonl" in warning
  assert not (tmp_path / "rollouts" / "step_000002.jsonl").exists()


def test_a_journal_that_cannot_be_opened_is_one_line(tmp_path):
  (tmp_path / "metrics.jsonl").mkdir()
  with pytest.raises(InputError, match=r"metrics.jsonl: Is a directory"):
    Journal(tmp_path)


def test_what_is_written_is_on_disk_before_offsets_returns(tmp_path, monkeypatch):
  synced = []
  monkeypatch.setattr(journal.os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor)))
  with Journal(tmp_path, tensorboard=False) as log:
    log.write(0, {"loss": 1.0})
    offsets = log.offsets()
    file = (tmp_path / "metrics.jsonl").stat()
    assert [(sync.st_ino, sync.st_size) for sync in synced] == [(file.st_ino, file.st_size)]
    digest = hashlib.sha256((tmp_path / "metrics.jsonl").read_bytes()).hexdigest()
    assert offsets == {"metrics_bytes": file.st_size, "metrics_sha256": digest, "step": 0} and file.st_size > 0


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_floats_read_back_exactly(single, double):
  text = json.dumps(journal._plain({"single": np.float32(single), "double": double}))
  read = json.loads(text)
  assert np.float32(read["single"]) == np.float32(single) and read["double"] == double
  assert math.copysign(1, read["double"]) == math.copysign(1, double)


def test_values_become_json(tmp_path):
  metrics = {
    "nan": jnp.float32(jnp.nan),
    "infinity": -math.inf,
    "count": np.int64(3),
    "ok": np.bool_(True),
    "bf16": jnp.bfloat16(0.5),
    "params_sha256": "abc",
    "by_length": {"short": [1.0, math.nan]},
  }
  with Journal(tmp_path) as log:
    log.write(7, metrics)
    with pytest.raises(TypeError, match="found set"):
      log.write(8, {"x": {1}})
  (record,) = journal.read_metrics(tmp_path)
  assert journal.read_metrics(str(tmp_path / "metrics.jsonl")) == [record]  # the file itself, too
  assert list(record) == ["step", *metrics]
  assert record == {
    "step": 7,
    "nan": None,
    "infinity": None,
    "count": 3,
    "ok": True,
    "bf16": 0.5,
    "params_sha256": "abc",
    "by_length": {"short": [1.0, None]},
  }


def test_text_of_a_record_stays_on_its_line(tmp_path):
  text = "a\nb\u2028c\x85\ud800"
  with Journal(tmp_path) as log:
    log.write_rollouts(1, [{"text": text}, {"text": ""}])
  lines = (tmp_path / "rollouts" / "step_000001.jsonl").read_text().splitlines()
  assert [json.loads(line)["text"] for line in lines] == [text, ""]


def test_steps_go_up(tmp_path):
  with Journal(tmp_path) as log:
    write_step(log, 3)
    with pytest.raises(ValueError, match="step 3 after step 3"):
      log.write(3, {})


def test_read_metrics_leaves_out_a_cut_line_and_names_a_broken_one(tmp_path):
  (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n{"st')
  assert journal.read_metrics(tmp_path) == [{"step": 0}]
  (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 0}\n{"step": \xff}\n')
  with pytest.raises(InputError, match=r"metrics.jsonl:2: not JSON"):
    journal.read_metrics(tmp_path)
  (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n{"st\n')
  with pytest.raises(InputError, match=r"metrics.jsonl:2: not JSON"):
    journal.read_metrics(tmp_path)


def test_time_memory_and_restarts_are_not_reproducible():
  record = {"step": 1, "loss": 2.0, "time/step": 3.0, "memory/peak": 4, "restart/count": 5, "timeouts": 6}
  assert journal.reproducible(record) == {"step": 1, "loss": 2.0, "timeouts": 6}


def test_tensorboard_is_told_to_drop_the_steps_after_the_checkpoint(tmp_path):
  with Journal(tmp_path) as log:
    write_step(log, 0)
    offsets = log.offsets()
    write_step(log, 1)
  with Journal(tmp_path, offsets) as log:
    write_step(log, 1)
  first, second = sorted((tmp_path / "tensorboard").iterdir(), key=lambda path: path.name.rsplit(".", 1)[1])
  values = [(event.step, value.tag) for event in read_events(first) for value in event.summary.value]
  assert values == [(0, "loss"), (0, "time/step"), (1, "loss"), (1, "time/step")]
  starts = [event.step for event in read_events(second) if event.session_log.status == event_pb2.SessionLog.START]
  assert starts == [1]


def test_tensorboard_can_be_left_out(tmp_path):
  with Journal(tmp_path, tensorboard=False) as log:
    write_step(log, 0)
  assert not (tmp_path / "tensorboard").exists()
