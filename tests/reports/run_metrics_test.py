import json

import numpy as np
import pytest

from posttrain_jax.reports.run_metrics import columns, read_records

FIRST, SECOND = '{"step": 0, "loss": 1.5}', '{"step": 1, "loss": 0.5}'


def read(path, content):
  (path / "metrics.jsonl").write_text(content)
  notices = []
  return [record["step"] for record in read_records(path / "metrics.jsonl", notices)], notices


def test_complete_lines_give_records_and_no_notice(tmp_path):
  assert read(tmp_path, f"{FIRST}\n\n{SECOND}\n") == ([0, 1], [])


@pytest.mark.parametrize(
  ("content", "steps", "notices"),
  [
    (f'{FIRST}\n{{"step": 1, "lo', [0], ["line 2 is cut short, as by a kill"]),
    (f"[1]\n{SECOND}\n", [1], ["line 1 is no record of a step"]),
    (f'{{"step": true}}\n{{"step": NaN}}\n{SECOND}\n', [1], ["line 1 is no record", "line 2 is no record"]),
    ("", [], ["metrics.jsonl has no complete step"]),
  ],
)
def test_a_damaged_line_is_left_out_with_a_notice(tmp_path, content, steps, notices):
  found, said = read(tmp_path, content)
  assert found == steps and len(said) == len(notices)
  assert all(part in notice for part, notice in zip(notices, said))


def test_a_missing_file_is_one_notice(tmp_path):
  notices = []
  assert read_records(tmp_path / "metrics.jsonl", notices) == []
  assert len(notices) == 1 and notices[0].startswith("metrics.jsonl is missing")


def test_columns_have_nan_where_a_step_has_no_number():
  records = [
    {"step": 0, "a": 1, "sha": "x"},
    {"step": 1, "a": None, "b": 2.5, "ok": True},
    json.loads('{"step": 2, "a": Infinity}'),
  ]
  found = columns(records)
  assert list(found) == ["step", "a", "b"] and {values.dtype for values in found.values()} == {np.dtype(np.float64)}
  np.testing.assert_array_equal(found["a"], [1, np.nan, np.nan])
  np.testing.assert_array_equal(found["b"], [np.nan, 2.5, np.nan])
