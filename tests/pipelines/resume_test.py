"""Tests that a run killed with SIGKILL or asked to stop resumes to exactly the numbers of an unbroken run."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from configs import tiny_dapo
from posttrain_jax.pipelines import grpo
from posttrain_jax.runs.keeper import Keeper
from posttrain_jax.runs.preemption import Preempted
from posttrain_jax.types import InputError
from tests import compiler_flags
from tests.pipelines.killed_run import ROOT, run_and_kill
from tests.pipelines.small_offline import records, small
from tests.pipelines.small_run import OVERRIDES, STEPS

# No checkpoint holds the reference of the KL term: it is the warmed-up policy, which a resumed run has to find again.
KL = {"objective.kl_coefficient": 0.05}


# Over eight devices, two prompts to each, in this process.
SMALL = KL | {name: value for name, value in OVERRIDES.items() if not name.startswith("model.")}
SMALL |= {"steps": 5, "warmup.steps": 4, "rollout.groups": 16, "rollout.slots": 64, "eval.sets.heldout.samples": 8}


def train(workdir, **more):
  grpo.train(small(tiny_dapo, sampled=True, **{**SMALL, **more}), str(workdir))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("unbroken") / "run"
  train(workdir)
  return workdir


def rollouts(workdir):
  return {path.name: path.read_text() for path in (workdir / "rollouts").iterdir()}


def assert_equal(workdir, unbroken, *, stopped):
  """Compares two runs bit for bit, one of which was asked to stop after a step."""
  before, after = records(unbroken), records(workdir)
  if stopped % SMALL["checkpoint.every"]:
    assert "params_sha256" in after[stopped]
    del after[stopped]["params_sha256"]  # of the checkpoint made on leaving
  assert after == before
  assert rollouts(workdir) == rollouts(unbroken)
  assert records(workdir / "warmup") == records(unbroken / "warmup")


def test_the_run_is_worth_comparing(unbroken):
  found = records(unbroken)
  assert [record["step"] for record in found] == list(range(SMALL["steps"] + 1))
  assert any(record.get("sampling/carried") for record in found)
  assert any(record.get("sampling/staleness_max") for record in found)
  assert all(record["kl/reference"] > 0 for record in found[2:])  # it has moved away from the reference
  assert found[-1]["updates"] > SMALL["steps"]
  assert len({record["params_sha256"] for record in found if "params_sha256" in record}) >= 3


def test_killed_in_warm_up_then_asked_to_stop(unbroken, tmp_path, monkeypatch):
  workdir = tmp_path / "run"
  run_and_kill("dapo", {**SMALL, "sampled": True}, workdir, after=3)
  assert records(workdir / "warmup")[-1]["step"] == 3 and not (workdir / "metrics.jsonl").exists()
  end = Keeper.end

  def asked_to_stop(self, step, *arguments, **options):
    if step == 3 and self._directory.parent == workdir:  # not the warm-up's
      os.kill(os.getpid(), signal.SIGTERM)
    return end(self, step, *arguments, **options)

  with monkeypatch.context() as patch:
    patch.setattr(Keeper, "end", asked_to_stop)
    with pytest.raises(Preempted, match="stopped after step 3"):
      train(workdir)
  train(workdir)
  assert_equal(workdir, unbroken, stopped=3)


def test_another_config_is_refused(unbroken):
  with pytest.raises(InputError) as error:
    train(unbroken, **{"optimizer.learning_rate": 0.5})
  line = str(error.value)
  assert "optimizer.learning_rate" in line and "0.5" in line and "0.01" in line and "\n" not in line
  config = json.loads((unbroken / "config.json").read_text())
  assert config["optimizer"]["learning_rate"] == 0.01
  assert len(records(unbroken)) == SMALL["steps"] + 1


def test_a_longer_run_goes_on_and_may_be_evaluated_on_something_else(unbroken, tmp_path):
  workdir, steps = tmp_path / "run", SMALL["steps"]
  shutil.copytree(unbroken, workdir)
  before = (workdir / "metrics.jsonl").read_text()
  train(workdir, **{"steps": steps + 1, "eval.sets.heldout.prompts.per_difficulty": 6})
  assert (workdir / "metrics.jsonl").read_text().startswith(before)
  found = records(workdir)
  assert [record["step"] for record in found] == list(range(steps + 2))
  assert found[-1]["updates"] > found[steps]["updates"]
  assert found[-1]["params_sha256"] != found[steps]["params_sha256"]
  assert (found[steps]["eval/heldout/problems"], found[-1]["eval/heldout/problems"]) == (24, 36)
  config = json.loads((workdir / "config.json").read_text())
  assert config["steps"] == steps + 1 and config["eval"]["sets"]["heldout"]["prompts"]["per_difficulty"] == 6


def command(workdir):
  flags = [f"--config.{name}={value}" for name, value in {**OVERRIDES, **KL}.items()]
  return [sys.executable, "-m", "experiments.dapo", f"--workdir={workdir}", *flags]


def run(workdir):
  done = subprocess.run(
    command(workdir), cwd=ROOT, env=compiler_flags.one_device(), capture_output=True, text=True, timeout=300
  )
  assert done.returncode == 0, done.stderr[-3000:]


def kill_when(workdir, condition):
  """Starts a run and kills it, without warning, as soon as `condition(workdir)` holds."""
  process = subprocess.Popen(
    command(workdir), cwd=ROOT, env=compiler_flags.one_device(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
  )
  limit = time.monotonic() + 300
  while process.poll() is None and not condition(workdir) and time.monotonic() < limit:
    time.sleep(0.002)
  assert process.poll() is None, "the run ended before it could be killed"
  process.send_signal(signal.SIGKILL)
  assert process.wait() == -signal.SIGKILL


def stop_when(workdir, condition):
  """Starts a run, asks it to stop as soon as `condition(workdir)` holds, and returns its last step."""
  process = subprocess.Popen(
    command(workdir),
    cwd=ROOT,
    env=compiler_flags.one_device(),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )
  while process.poll() is None and not condition(workdir):
    time.sleep(0.01)
  process.send_signal(signal.SIGTERM)
  assert process.wait(60) == 75, process.stderr.read()[-2000:]
  return records(workdir)[-1]["step"]


def lines(path):
  return path.read_text().count("\n") if path.exists() else 0


@pytest.mark.slow  # starts six processes
def test_killed_in_warm_up_in_a_step_and_while_saving_then_asked_to_stop(tmp_path):
  workdir, unbroken = tmp_path / "run", tmp_path / "unbroken"
  run(unbroken)
  rng = random.Random(os.urandom(8))

  def soon_after(condition):
    met = []

    def happened(path):
      if condition(path):
        met.append(time.monotonic())
      return bool(met) and time.monotonic() > met[0] + delay

    delay = rng.random() * 0.1
    return happened

  kill_when(workdir, soon_after(lambda path: lines(path / "warmup" / "metrics.jsonl") >= 4))
  kill_when(workdir, soon_after(lambda path: lines(path / "metrics.jsonl") >= 3))
  kill_when(workdir, soon_after(lambda path: any(path.glob("checkpoints/4*"))))
  last = stop_when(workdir, lambda path: lines(path / "metrics.jsonl") >= 6)
  assert 5 <= last < STEPS and (workdir / "checkpoints" / f"{last}.manifest.json").exists()
  run(workdir)
  assert_equal(workdir, unbroken, stopped=last)
