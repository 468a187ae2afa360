"""Tests the comparison of runs at equal distance, on runs whose numbers are given."""

import json
import math

import pytest

from posttrain_jax.recipes import equal_distance
from posttrain_jax.types import InputError

NAMES = ("kl/reference", "reward/rated", "reward/reward_model")


def write_run(folder, steps):
  folder.mkdir()
  records = [{"step": 0}]
  records += [{"step": number, **dict(zip(NAMES, values))} for number, values in enumerate(steps, start=1)]
  (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
  return str(folder / "metrics.jsonl")


def config(tmp_path, **runs):
  made = equal_distance.of_runs(*runs)
  made.window = 2
  for name, steps in runs.items():
    made.runs[name].path = write_run(tmp_path / name, steps)
  equal_distance.check(made)
  return made


def test_runs_are_compared_where_both_have_been(tmp_path):
  hacked = [(0.0, 2, 0), (0.2, 3, 4), (0.4, 3, 8), (0.8, 1, 12), (1.2, 0, 14)]
  honest = [(0.1, 2, 5), (0.3, 4, 6), (0.5, 4, 7), (0.3, 4, 7)]
  found = equal_distance.compare(config(tmp_path, hacked=hacked, honest=honest), tmp_path)
  # Averages of two steps: distances 0.1, 0.3, 0.6, 1.0 and 0.2, 0.4, 0.4. The first that reaches 0.4 is the third of
  # the one run, and the second of the other.
  assert found["distance"] == pytest.approx(0.4)
  assert (found["hacked/gold"], found["hacked/proxy"]) == ((3 + 1) / 2, (8 + 12) / 2)
  assert (found["honest/gold"], found["honest/proxy"]) == (4, 6.5)
  assert (found["hacked/gold_start"], found["hacked/gold_best"], found["hacked/gold_end"]) == (2.5, 3, 0.5)
  assert (found["hacked/proxy_start"], found["hacked/proxy_end"]) == (2, 13)
  assert found["hacked/distance_end"] == pytest.approx(1.0)
  points = json.loads((tmp_path / "distances.json").read_text())
  assert points["honest"]["gold"] == [3, 4, 4]
  assert (tmp_path / "distances.png").read_bytes().startswith(b"\x89PNG")


def test_steps_without_a_score_count_in_no_average(tmp_path):
  judged = [(0.1, 2, 4), (0.2, 3, None), (0.3, 4, None), (0.4, 4, 8)]
  found = equal_distance.compare(config(tmp_path, judged=judged, other=[(1.0, 0, 0)] * 3), tmp_path)
  assert (found["judged/proxy_start"], found["judged/proxy_end"], found["judged/gold_end"]) == (4, 8, 4)
  assert math.isnan(json.loads((tmp_path / "distances.json").read_text())["judged"]["proxy"][1])


def test_steps_that_lack_a_metric_keep_the_place_of_the_others(tmp_path):
  made = config(tmp_path, ruled=[(0.1, 2, 4), (0.2, 3, 5), (0.4, 4, 8)], other=[(1.0, 0, 0)] * 3)
  records = [json.loads(line) for line in (tmp_path / "ruled" / "metrics.jsonl").read_text().splitlines()]
  del records[2]["reward/reward_model"]
  (tmp_path / "ruled" / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
  found = equal_distance.compare(made, tmp_path)
  points = json.loads((tmp_path / "distances.json").read_text())["ruled"]
  assert points["proxy"] == [4, 8] and points["distance"] == pytest.approx([0.15, 0.3])
  assert (found["ruled/proxy"], found["distance"]) == (8, pytest.approx(0.3))


def test_runs_that_cannot_be_compared(tmp_path):
  made = config(tmp_path, one=[(0.1, 1, 1)] * 3, two=[(0.1, 1, 1)])
  with pytest.raises(
    InputError, match=r"two/metrics.jsonl: found kl/reference in 1 steps, expected at least window = 2"
  ):
    equal_distance.compare(made, tmp_path)
  made.gold = "reward/other"
  made.window = 1
  with pytest.raises(InputError, match=r"one/metrics.jsonl: found reward/other in 0 steps"):
    equal_distance.compare(made, tmp_path)
  with pytest.raises(InputError, match="runs: found fewer than two"):
    equal_distance.check(equal_distance.of_runs("one"))
