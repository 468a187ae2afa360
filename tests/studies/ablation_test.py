"""Tests the study as a whole, from made-up runs to table, curves and report.

A slow test uses real runs.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from configs import dapo_ablation
from posttrain_jax.studies import ablation, ablation_jobs
from posttrain_jax.studies.ablation_plan import plan
from posttrain_jax.types import InputError
from tests.evaluation.made_runs import write_run

ENDS = {"naive": 0.5, "overlong_filter": 0.6, "clip_higher": 0.7, "continued_sft": 0.4, "control_naive": 0.6}


@pytest.fixture
def config():
  found = dapo_ablation.get_config()
  found.measure.tokens = dict(main=12_000, control=12_000)
  found.measure.resamples = 50
  return found


def finish(job, *, code=0):
  """Makes a job's run up, as if it had ended."""
  row, seed = job.path.name, job.config.seed
  write_run(job.path, end=ENDS.get(row, 0.5), seed=seed, tokens=None if job.program != "dapo" else 1000)
  ablation_jobs._beside(job, "config.json").write_text(ablation_jobs._text(job))
  result = {"exit_code": code, "seconds": 100.0, "cpu_seconds": 60.0 + seed}
  ablation_jobs._beside(job, "result.json").write_text(json.dumps(result))


def made(monkeypatch, fail=()):
  def run_jobs(jobs, **options):
    for job in jobs:
      finish(job, code=int(job.name in fail))
    return {job.name: "exit code 1" for job in jobs if job.name in fail}

  monkeypatch.setattr(ablation_jobs, "run_jobs", run_jobs)


def test_table_curves_and_report(tmp_path, config, monkeypatch):
  made(monkeypatch, fail=("seed1/clip_higher",))
  result = ablation.study(config, str(tmp_path / "study"), rows=list(ENDS), seeds=[0, 1])
  assert result["measure"] == "heldout avg@8 at equal tokens" and result["failed"] == ["seed1/clip_higher"]
  means = {row: values[0] for row, values in result["rows"].items()}
  assert means["naive"] < means["overlong_filter"] < means["clip_higher"] and "control_naive" not in means
  table = json.loads((tmp_path / "study" / "table.json").read_text())
  cells = table["cells"]["main"]
  assert cells["clip_higher"][result["measure"]]["seeds"] == [0]
  assert table["cpu_seconds"]["naive"] == 60.5 and table["cells"]["control"]["control_naive"]
  assert [(each["row"], each["against"]) for each in table["contrasts"]["main"]] == [
    ("overlong_filter", "naive"),
    ("clip_higher", "overlong_filter"),
  ]
  text = (tmp_path / "study" / "table.md").read_text()
  assert "seed1/clip_higher: exit code 1" in text and "2 seeds cannot reach 0.05" in text
  page = (tmp_path / "study" / "report.html").read_text()
  assert (tmp_path / "study" / "accuracy.png").exists() and (tmp_path / "study" / "entropy_control.png").exists()
  assert page.count("<img ") == len(list((tmp_path / "study").glob("*.png")))
  # Only what is finished counts, also later.
  monkeypatch.setattr(ablation, "_draw", lambda *args: {})
  again = ablation.summarize(config, str(tmp_path / "study"))
  assert again["rows"] == result["rows"] and again["failed"] == []
  assert "seed1/clip_higher: exit code 1; it is left out" in (tmp_path / "study" / "table.md").read_text()


def test_a_run_short_of_the_budget_is_said(tmp_path, config, monkeypatch):
  made(monkeypatch)
  monkeypatch.setattr(ablation, "_draw", lambda *args: {})
  config.measure.tokens.main = 13_000
  result = ablation.study(config, str(tmp_path), rows=["naive"], seeds=[0])
  assert result["rows"] == {}
  assert "naive, seed 0: ends short of 13,000 generated tokens" in (tmp_path / "table.md").read_text()


def test_what_all_runs_share_may_not_change(tmp_path, config, monkeypatch):
  made(monkeypatch)
  monkeypatch.setattr(ablation, "_draw", lambda *args: {})
  ablation.study(config, str(tmp_path), rows=["naive"], seeds=[0])
  config.rows.clip_higher.change.objective.clip_high = 0.3  # a row that has not run yet
  ablation.study(config, str(tmp_path), rows=["naive"], seeds=[0])
  config.base.rollout.groups = 32
  with pytest.raises(InputError, match=r"study.base.rollout.groups was 64 when the run started, found 32 now"):
    ablation.study(config, str(tmp_path), rows=["naive"], seeds=[0])


def test_nothing_to_summarise(tmp_path, config):
  with pytest.raises(InputError, match="found no finished run"):
    ablation.summarize(config, str(tmp_path))
  with pytest.raises(InputError, match="--parallel=0"):
    ablation.study(config, str(tmp_path), rows=["naive"], seeds=[0], parallel=0)


SMALL = {
  "base.steps": 3,
  "base.model.embed_dim": 32,
  "base.model.num_heads": 2,
  "base.model.num_kv_heads": 2,
  "base.model.head_dim": 16,
  "base.model.mlp_dim": 64,
  "base.warmup.steps": 20,
  "base.warmup.demonstrations.per_difficulty": 60,
  "base.prompts.per_difficulty": 20,
  "base.rollout.groups": 4,
  "base.rollout.group_size": 4,
  "base.rollout.slots": 16,
  "base.dynamic_sampling.max_prompts": 16,
  "base.learner.updates_per_step": 4,
  "base.eval.every": 1,
  "base.eval.slots": 16,
  "base.eval.sets.heldout.prompts.per_difficulty": 1,
  "base.eval.sets.heldout.samples": 2,
  "base.eval.sets.sft_only.prompts.per_difficulty": 1,
  "base.eval.sets.sft_only.samples": 2,
  "base.eval.best": "heldout/avg@2",
  "rows.best_of_8_sft.change.steps": 3,
  "rows.best_of_8_sft.change.eval.every": 1,
  "rows.best_of_8_sft.collect.selection.threshold": -1.0,
  "rows.best_of_8_sft.collect.prompts.per_difficulty": 4,
  "rows.best_of_8_sft.collect.rollout.slots": 16,
  "measure.tokens.main": 400,
  "measure.points": 3,
  "measure.last": 2,
}


@pytest.mark.slow
def test_real_runs_end_to_end(tmp_path):
  settings = [f"--config.{name}={value}" for name, value in SMALL.items()]
  command = [sys.executable, "-m", "experiments.ablation", "--rows=naive,clip_higher,best_of_8_sft", "--seeds=0,1"]
  command += [f"--workdir={tmp_path}", "--parallel=2", *settings]
  done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ, XLA_FLAGS=""))
  assert done.returncode == 0, done.stdout + done.stderr
  result = json.loads(done.stdout.splitlines()[-1])
  assert set(result["rows"]) == {"naive", "clip_higher", "best_of_8_sft"} and pathlib.Path(result["report"]).exists()
  starts = [
    json.loads((tmp_path / f"seed0/{row}/metrics.jsonl").read_text().splitlines()[0])
    for row in ("naive", "clip_higher")
  ]
  # The same warm-up, problems and draws: before training two rows of a seed are the same run.
  assert starts[0]["params_sha256"] == starts[1]["params_sha256"]
  assert starts[0]["eval/heldout/per_problem/avg@2"] == starts[1]["eval/heldout/per_problem/avg@2"]
  jobs = plan(dapo_ablation.get_config(), tmp_path, ["naive"], [0])
  assert [job.name for job in jobs] == ["seed0/warmup", "seed0/naive"]
  again = subprocess.run([*command, "--summarize"], capture_output=True, text=True, check=False)
  assert again.returncode == 0 and json.loads(again.stdout.splitlines()[-1])["rows"] == result["rows"]
