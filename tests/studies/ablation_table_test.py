import json
import math

import numpy as np
import pytest

from posttrain_jax.studies import ablation_table
from posttrain_jax.studies.ablation_runs import read_run
from posttrain_jax.studies.ablation_table import cell, contrasts, last_points, measures
from tests.evaluation.made_runs import PROBLEMS, write_run

GRID = dict(points=6, last=3)
FAMILY = (("better", "naive", "token_mean"), ("same", "naive", "clip_higher"), ("absent", "naive", "all"))


@pytest.fixture
def runs(tmp_path):
  ends = {"naive": 0.6, "better": 0.8, "same": 0.6}
  found = {}
  for row, end in ends.items():
    for seed in range(6):
      path = write_run(tmp_path / f"{seed}" / row, end=end + 0.01 * (row == "same" and seed % 2), seed=seed)
      found.setdefault(row, {})[seed] = read_run(path, row, seed)
  return found


def primary(runs, tokens=12_000):
  every = [run for row in runs.values() for run in row.values()]
  return measures(every, name="heldout", others=("sft_only",), tokens=tokens, **GRID)


def test_the_last_points_of_a_budget():
  np.testing.assert_allclose(last_points(1200, points=12, last=5), [800, 900, 1000, 1100, 1200])


def test_measures(runs):
  found = primary(runs)
  assert [each.name for each in found] == [
    "heldout avg@8 at equal tokens",
    "heldout avg@8 at equal updates",
    "heldout avg@8 at equal seconds",
    "heldout greedy at equal tokens",
    "sft_only avg@4 at equal tokens",
  ]
  np.testing.assert_allclose(found[0].points, [8000, 10_000, 12_000])
  np.testing.assert_allclose(found[1].points, [32, 40, 48])
  np.testing.assert_allclose(found[2].points, [4, 5, 6])


def test_a_cell_is_the_mean_of_the_last_points_never_the_best(runs):
  found = cell(runs["better"], primary(runs)[0], resamples=200)
  # .2 + .6 · (8, 10, 12) / 12 has the mean .7; the noise between problems is in the interval.
  scores = np.stack([primary(runs)[0].of(run) for run in runs["better"].values()])
  assert found.interval.mean == pytest.approx(scores.mean()) == pytest.approx(0.7, abs=0.02)
  assert found.interval.low < 0.7 < found.interval.high and found.seeds == tuple(range(6))


def test_contrasts_are_paired_corrected_and_checked(runs):
  better, same = contrasts(runs, FAMILY, primary(runs)[0], tokens=12_000, resamples=200)
  assert better.difference.mean == pytest.approx(0.2 * 10 / 12, abs=0.01)
  # The same noise in both rows cancels: problem by problem, seed by seed.
  assert better.difference.high - better.difference.low < 0.02
  assert better.p == 2 / 64 and better.adjusted == 4 / 64 and better.smallest == 2 / 64
  # Three of six seeds differ, all in one direction: 2^3 patterns of their signs, two of them as far out.
  assert same.p == 2 / 8 and same.adjusted == 2 / 8
  assert not better.void and [check.what for check in better.checks] == ["coefficient of variation of lengths"]


def test_a_contrast_without_its_mechanism_is_void(tmp_path, runs):
  for seed in range(6):
    path = write_run(tmp_path / f"void{seed}", end=0.9, seed=seed, **{"length/cv": 0.1})
    runs["better"][seed] = read_run(path, "better", seed)
  better, _ = contrasts(runs, FAMILY, primary(runs)[0], tokens=12_000, resamples=50)
  assert better.void and better.p == 2 / 64


def test_a_run_short_of_the_budget_is_left_out(runs):
  measure = primary(runs, tokens=12_001)[0]
  assert cell(runs["naive"], measure, resamples=50) is None
  assert contrasts(runs, FAMILY, measure, tokens=12_001, resamples=50) == []


def test_json_has_no_nan(runs):
  found = contrasts(runs, FAMILY, primary(runs)[0], tokens=12_000, resamples=50)
  text = json.dumps(ablation_table.to_json({"contrasts": found, "nan": math.nan, "n": np.arange(2)}), allow_nan=False)
  back = json.loads(text)
  assert back["nan"] is None and back["n"] == [0, 1] and back["contrasts"][0]["void"] is False
  assert len(next(iter(primary(runs)[0].of(run) for run in runs["naive"].values()))) == PROBLEMS
