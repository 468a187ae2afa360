"""Tests that a run killed with SIGKILL at any moment resumes to exactly the numbers of an unbroken run."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from posttrain_jax.runs.journal import read_metrics, reproducible
from tests.pipelines.small_run import OVERRIDES, STEPS

ROOT = pathlib.Path(__file__).resolve().parents[2]


# No checkpoint holds the reference of the KL term: it is the warmed-up policy, which a resumed run has to find again.
KL = {"objective.kl_coefficient": 0.05}


def command(workdir, **more):
  flags = [f"--config.{name}={value}" for name, value in {**OVERRIDES, **KL, **more}.items()]
  return [sys.executable, "-m", "experiments.dapo", f"--workdir={workdir}", *flags]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
  # One device, as a user has it, and one compilation cache for all processes; bits do not depend on it.
  cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}
  cache["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  quick = "--xla_cpu_use_fusion_emitters=false" if os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS") == "1" else ""
  return {**os.environ, **cache, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": quick}


def run(workdir, environment, **more):
  done = subprocess.run(
    command(workdir, **more), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
  )
  assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, environment):
  workdir = tmp_path_factory.mktemp("unbroken") / "run"
  run(workdir, environment)
  return workdir


def records(workdir):
  return [reproducible(record) for record in read_metrics(workdir)]


def rollouts(workdir):
  return {path.name: path.read_text() for path in (workdir / "rollouts").iterdir()}


def kill_when(workdir, environment, condition, **more):
  """Starts a run and kills it, without warning, as soon as `condition(workdir)` holds."""
  process = subprocess.Popen(
    command(workdir, **more), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
  )
  limit = time.monotonic() + 300
  while process.poll() is None and not condition(workdir) and time.monotonic() < limit:
    time.sleep(0.002)
  assert process.poll() is None, "the run ended before it could be killed"
  process.send_signal(signal.SIGKILL)
  assert process.wait() == -signal.SIGKILL


def stop_when(workdir, environment, condition):
  """Starts a run, asks it to stop as soon as `condition(workdir)` holds, and returns its last step."""
  process = subprocess.Popen(
    command(workdir), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
  )
  while process.poll() is None and not condition(workdir):
    time.sleep(0.01)
  process.send_signal(signal.SIGTERM)
  assert process.wait(60) == 75, process.stderr.read()[-2000:]
  return records(workdir)[-1]["step"]


def lines(path):
  return path.read_text().count("\n") if path.exists() else 0


def test_the_run_is_worth_comparing(unbroken):
  found = records(unbroken)
  assert [record["step"] for record in found] == list(range(STEPS + 1))
  assert any(record.get("sampling/carried") for record in found)
  assert any(record.get("sampling/staleness_max") for record in found)
  assert all(record["kl/reference"] > 0 for record in found[2:])  # it has moved away from the reference
  assert found[-1]["updates"] > STEPS
  assert len({record["params_sha256"] for record in found if "params_sha256" in record}) >= 4


def test_killed_in_warm_up_in_a_step_and_while_saving_then_asked_to_stop(unbroken, environment, tmp_path):
  workdir = tmp_path / "run"
  rng = random.Random(os.urandom(8))

  def soon_after(condition):
    met = []

    def happened(path):
      if condition(path):
        met.append(time.monotonic())
      return bool(met) and time.monotonic() > met[0] + delay

    delay = rng.random() * 0.1
    return happened

  kill_when(workdir, environment, soon_after(lambda path: lines(path / "warmup" / "metrics.jsonl") >= 4))
  kill_when(workdir, environment, soon_after(lambda path: lines(path / "metrics.jsonl") >= 3))
  kill_when(workdir, environment, soon_after(lambda path: any(path.glob("checkpoints/4*"))))
  last = stop_when(workdir, environment, lambda path: lines(path / "metrics.jsonl") >= 6)
  assert 5 <= last < STEPS and (workdir / "checkpoints" / f"{last}.manifest.json").exists()
  run(workdir, environment)
  before, after = records(unbroken), records(workdir)
  if last % OVERRIDES["checkpoint.every"]:
    assert "params_sha256" in after[last]
    del after[last]["params_sha256"]  # of the checkpoint made on leaving
  assert after == before
  assert rollouts(workdir) == rollouts(unbroken)
  assert records(workdir / "warmup") == records(unbroken / "warmup")


def test_another_config_is_refused(unbroken, environment):
  done = subprocess.run(
    command(unbroken, **{"optimizer.learning_rate": 0.5}), cwd=ROOT, env=environment, capture_output=True, text=True
  )
  assert done.returncode == 2
  *notes, line = done.stderr.strip().splitlines()
  assert all(note.startswith("note: ") for note in notes)
  assert "optimizer.learning_rate" in line and "0.5" in line and "0.0003" in line
  config = json.loads((unbroken / "config.json").read_text())
  assert config["optimizer"]["learning_rate"] == 0.0003
  assert len(records(unbroken)) == STEPS + 1


def test_a_longer_run_goes_on_and_may_be_evaluated_on_something_else(unbroken, environment, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(unbroken, workdir)
  before = (workdir / "metrics.jsonl").read_text()
  run(workdir, environment, **{"steps": STEPS + 2, "eval.sets.heldout.prompts.per_difficulty": 6})
  assert (workdir / "metrics.jsonl").read_text().startswith(before)
  found = records(workdir)
  assert [record["step"] for record in found] == list(range(STEPS + 3))
  assert found[-1]["updates"] > found[STEPS]["updates"]
  assert found[-1]["params_sha256"] != found[STEPS]["params_sha256"]
  assert (found[STEPS]["eval/heldout/problems"], found[-1]["eval/heldout/problems"]) == (24, 36)
  config = json.loads((workdir / "config.json").read_text())
  assert config["steps"] == STEPS + 2 and config["eval"]["sets"]["heldout"]["prompts"]["per_difficulty"] == 6
