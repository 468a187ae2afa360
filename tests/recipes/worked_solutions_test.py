"""Tests demonstrations from worked solutions."""

import json

import pytest
from ml_collections import ConfigDict

from posttrain_jax.data.prompts import Row
from posttrain_jax.recipes import worked_solutions
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.rewards import verifiers
from posttrain_jax.types import InputError

SOLUTION = "Half of 48 is 48/2 = <<48/2=24>>24.\nBoth are 48+24 = <<48+24=72>>72.\n#### 72"


def config(tmp_path, count=3, **fields):
  file = tmp_path / "solutions.jsonl"
  rows = [{"question": f"Question {i}?", "answer": SOLUTION} for i in range(count)]
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return ConfigDict({"seed": 0, "path": str(file), "limit": 0, **fields})


def test_the_work_is_the_thought(tmp_path):
  assert worked_solutions.write(config(tmp_path), tmp_path) == {"examples": 3, "of": 3}
  rows = [json.loads(line) for line in (tmp_path / "demonstrations.jsonl").read_text().splitlines()]
  assert rows[0] == {
    "prompt": "Question 0?",
    "completion": "<think>Half of 48 is 48/2 = 24.\nBoth are 48+24 = 72.</think>\n<answer>72</answer>",
    "answer": "72",
  }
  texts = [row["completion"] for row in rows]
  assert verifiers.think_answer_format(texts, rows) == [1, 1, 1]
  assert verifiers.exact_answer(texts, rows, style="tag") == [1, 1, 1]


def test_rows_are_drawn(tmp_path):
  drawn = config(tmp_path, count=20, limit=4)
  assert worked_solutions.write(drawn, tmp_path) == {"examples": 4, "of": 20}
  assert worked_solutions.forecast(drawn, Forecast(0.5)).rows == {"demonstrations.jsonl": 4}
  first = (tmp_path / "demonstrations.jsonl").read_text()
  worked_solutions.write(drawn, tmp_path)
  assert (tmp_path / "demonstrations.jsonl").read_text() == first
  drawn.seed = 1
  worked_solutions.write(drawn, tmp_path)
  assert (tmp_path / "demonstrations.jsonl").read_text() != first


@pytest.mark.parametrize("row", [{"question": "q"}, {"question": "q", "answer": "72"}, {"answer": SOLUTION}])
def test_rows_without_work_are_refused(row):
  with pytest.raises(InputError, match=r"file:3: expected 'question', and 'answer' with work before a last line"):
    worked_solutions.thought(Row(row, "file:3"))


def test_a_file_must_be_named(tmp_path):
  with pytest.raises(InputError, match=r"path: empty, expected FILE.jsonl"):
    worked_solutions.check(config(tmp_path, path=""))
