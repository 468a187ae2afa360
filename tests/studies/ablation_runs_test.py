import numpy as np
import pytest

from posttrain_jax.studies.ablation_runs import SECONDS, TOKENS, UPDATES, read_run
from posttrain_jax.types import InputError
from tests.evaluation.made_runs import PROBLEMS, write_run


def test_costs(tmp_path):
  run = read_run(write_run(tmp_path, end=0.8, seed=0), "naive", 0)
  np.testing.assert_allclose(run.costs[TOKENS], 1000 * np.arange(13))
  np.testing.assert_allclose(run.costs[UPDATES], 4 * np.arange(13))
  # The first step took 50 s to compile; it counts as the median of .5 s.
  np.testing.assert_allclose(run.costs[SECONDS], 0.5 * np.arange(13))
  assert list(run.evaluated) == [0, 2, 4, 6, 8, 10, 12]
  assert {name: list(scores) for name, scores in run.scores.items()} == {
    "heldout": ["avg@8", "greedy"],
    "sft_only": ["avg@4"],
  }


def test_measured_at_equal_cost(tmp_path):
  run = read_run(write_run(tmp_path, end=0.8, seed=0), "naive", 0)
  # Accuracy of sft_only is .2 + .05 · step: at 3,000 tokens .35, at 5,000 .45.
  np.testing.assert_allclose(run.measured("sft_only", "avg@4", {TOKENS: np.array([3000, 5000])}), [0.4] * 5)
  np.testing.assert_allclose(run.measured("sft_only", "avg@4", {UPDATES: np.array([4])}), [0.25] * 5)
  assert run.measured("heldout", "avg@8", {TOKENS: np.array([12_000])}).shape == (PROBLEMS,)
  assert run.measured("heldout", "avg@8", {TOKENS: np.array([3000, 12_001])}) is None
  assert run.measured("heldout", "pass@8", {TOKENS: np.array([3000])}) is None


def test_a_supervised_run_is_measured_at_its_end(tmp_path):
  run = read_run(write_run(tmp_path, end=0.8, seed=0, tokens=None), "continued_sft", 0)
  assert not run.samples_tokens
  # The last two evaluations have .7 and .8, whatever points are asked for.
  np.testing.assert_allclose(run.measured("sft_only", "avg@4", {TOKENS: np.array([1.0, 2.0])}), [0.75] * 5)
  assert run.until(10) is run.columns


def test_columns_up_to_the_budget(tmp_path):
  run = read_run(write_run(tmp_path, end=0.8, seed=0), "naive", 0)
  assert list(run.until(2500)["step"]) == [0, 1, 2, 3]


def test_problems_without_a_verdict_are_nan(tmp_path):
  file = write_run(tmp_path, end=0.8, seed=0) / "metrics.jsonl"
  file.write_text(
    file.read_text().replace('"eval/heldout/per_problem/greedy": [1.0', '"eval/heldout/per_problem/greedy": [null')
  )
  assert np.isnan(read_run(tmp_path, "naive", 0).scores["heldout"]["greedy"][:, 0]).all()


def test_a_run_without_scores_of_problems_is_refused(tmp_path):
  (tmp_path / "metrics.jsonl").write_text('{"step": 0, "eval/heldout/avg@8": 0.5}\n')
  with pytest.raises(InputError, match="per_problem=True"):
    read_run(tmp_path, "naive", 0)
