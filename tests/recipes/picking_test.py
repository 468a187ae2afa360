"""Tests which rows are picked of a file, and which columns they get."""

import json

import pytest
from ml_collections import ConfigDict

from posttrain_jax.recipes import picking
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.types import InputError

TASKS = [
  {"instruction": f"say {i}", "input": "of {it}" if i % 2 else "", "output": f"answer {i}", "label": "ab"[i % 2]}
  for i in range(6)
]


def config_of(tmp_path, **changes):
  file = tmp_path / "tasks.jsonl"
  file.write_text("".join(json.dumps(row) + "\n" for row in TASKS))
  return ConfigDict({"seed": 0, "path": str(file), "only": {}, "limit": 0, "columns": {}, **changes})


def picked(config, tmp_path):
  picking.check(config)
  counts = picking.pick(config, tmp_path / "made")
  rows = [json.loads(line) for line in (tmp_path / "made" / picking.ROWS).read_text().splitlines()]
  assert counts == {"rows": len(rows), "of": len(TASKS)}
  assert picking.forecast(config, Forecast(0.5)).rows == {picking.ROWS: len(rows)}
  return rows


def test_without_a_limit_all_rows_stay_as_they_are(tmp_path):
  assert picked(config_of(tmp_path), tmp_path) == TASKS


def test_columns_are_written_from_others(tmp_path):
  columns = {"prompt": "{instruction}\n{input}", "completion": "{output}", "strength": "better"}
  rows = picked(config_of(tmp_path, columns=columns), tmp_path)
  assert [rows[0][name] for name in columns] == ["say 0", "answer 0", "better"]  # no line of an empty column
  assert rows[1]["prompt"] == "say 1\nof {it}"  # what a row says is text, braces included
  assert all(row["instruction"] for row in rows)
  own = picking.rewritten(3, **columns)
  own.path = str(tmp_path / "tasks.jsonl")
  assert picked(own, tmp_path) == rows


def test_some_rows_are_drawn_at_random(tmp_path):
  first, again, other = (picked(config_of(tmp_path, limit=4, seed=seed), tmp_path) for seed in (0, 0, 1))
  assert first == again and len(first) == 4 and first != other
  assert all(row in TASKS for row in first) and first != TASKS[:4]


def test_only_rows_with_a_value_are_picked(tmp_path):
  rows = picked(config_of(tmp_path, only={"label": "b"}, limit=2), tmp_path)
  assert len(rows) == 2 and {row["label"] for row in rows} == {"b"}


def test_rows_of_a_file_that_does_not_exist_yet_are_expected(tmp_path):
  known = Forecast(0.5)
  known.expect_rows(tmp_path / "later.jsonl", 30)
  for limit, count in ((0, 30), (12, 12), (50, 30)):
    config = config_of(tmp_path, path=str(tmp_path / "later.jsonl"), limit=limit)
    assert picking.forecast(config, known).rows == {picking.ROWS: count}


def test_bad_input_is_found_before_anything_runs(tmp_path):
  for changes, message in (
    ({"columns": {"prompt": "{question}"}}, r"tasks\.jsonl:1: column 'question' is None, expected text; found columns"),
    ({"only": {"label": "c"}}, r"tasks\.jsonl: found no row of 6 with label=c, expected some"),
  ):
    with pytest.raises(InputError, match=message):
      picking.forecast(config_of(tmp_path, **changes), Forecast(0.5))
  for changes, message in (
    ({"path": ""}, r"path: empty, expected FILE\.jsonl"),
    ({"limit": -1}, r"limit: -1, expected at least 0"),
    ({"some": 1}, r"some: unknown"),
  ):
    with pytest.raises(InputError, match=message):
      picking.check(config_of(tmp_path, **changes))
