"""Tests curves over steps, and when a level is reached."""

import json
import math

import pytest

from posttrain_jax.recipes import curves
from posttrain_jax.types import InputError

METRICS = {"accuracy/mean": "accuracy", "length/mean": "tokens"}


def write_run(folder, accuracies):
  folder.mkdir()
  records = [{"step": 0, "eval/x": 1.0}]
  for step, accuracy in enumerate(accuracies, start=1):
    records.append(
      {"step": step, "accuracy/mean": accuracy, "length/mean": 2.0 * step, "sampling/tokens_generated": 100}
    )
  (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
  return str(folder / "metrics.jsonl")


def config(tmp_path, level=0.5, **runs):
  made = curves.of_runs(*runs, metrics=METRICS, level_of="accuracy/mean", level=level)
  for name, accuracies in runs.items():
    made.runs[name].path = write_run(tmp_path / name, accuracies)
  return made


def test_runs_are_drawn_and_their_ends_compared(tmp_path):
  made = config(tmp_path, slow=[0.0] * 5 + [1.0] * 5, never=[0.1] * 7)
  found = curves.draw(made, tmp_path / "curves")
  assert found["slow/accuracy"] == 1 and found["never/accuracy"] == pytest.approx(0.1)
  assert found["slow/tokens"] == 2 * (6 + 7 + 8 + 9 + 10) / 5
  assert found["slow/steps_to_level"] == 8 and found["slow/tokens_to_level"] == 800
  assert math.isnan(found["never/steps_to_level"]) and math.isnan(found["never/tokens_to_level"])
  points = json.loads((tmp_path / "curves" / "curves.json").read_text())
  assert points["slow"]["length/mean"] == [2.0 * step for step in range(1, 11)]
  assert (tmp_path / "curves" / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
  ("values", "reached"), [([1.0] * 5, 5), ([0, 0, 1, 1, 1, 0, 0], 5), ([0.0] * 9, None), ([1.0] * 4, None)]
)
def test_five_steps_reach_a_level_together(values, reached):
  assert curves.steps_to(values, 0.5) == reached


def test_metrics_that_a_run_lacks_are_refused(tmp_path):
  made = config(tmp_path, one=[0.5] * 6)
  made.metrics = {"reward/mixed": "mixed"}
  with pytest.raises(
    InputError, match=r"one/metrics.jsonl: found no reward/mixed, expected the metrics of a run of RL"
  ):
    curves.draw(made, tmp_path / "curves")


@pytest.mark.parametrize("field", ["runs", "metrics"])
def test_nothing_to_draw_is_refused(tmp_path, field):
  made = config(tmp_path, one=[0.5] * 6).unlock()
  made[field] = {}
  with pytest.raises(InputError, match=f"{field}: found none, expected some to draw"):
    curves.check(made)
