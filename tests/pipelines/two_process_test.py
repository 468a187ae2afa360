"""Tests a run of two processes on one workdir.

Killed, asked to stop, and resumed, it equals a run that nothing interrupted.
"""

import json
import signal
import time

from posttrain_jax.runs.journal import read_metrics, reproducible
from tests import two_processes
from tests.pipelines.small_run import OVERRIDES

# Parameters are sharded over the two processes, and each has a sampler on its device.
MORE = {
  "mesh.fsdp": 2,
  "model.num_layers": 1,
  "model.unroll": 1,
  "learner.updates_per_step": 1,
  "warmup.steps": 3,
  "warmup.batch_size": 8,
  "warmup.eval.every": 0,
  "eval.every": 1000,
  "eval.sets.heldout.greedy": False,
  "eval.sets.heldout.prompts.per_difficulty": 2,
  "checkpoint.every": 2,
  "logging.report": False,
}


def start(workdir, steps):
  flags = [f"--config.{name}={value}" for name, value in {**OVERRIDES, **MORE, "steps": steps}.items()]
  return two_processes.start("-m", "experiments.dapo", f"--workdir={workdir}", *flags, devices=1)


def run(workdir, steps):
  """Runs to the end; returns the standard errors of both processes."""
  codes, _, errors = two_processes.finish(start(workdir, steps))
  assert codes == [0, 0], errors[0][-3000:] + errors[1][-3000:]
  return errors


def records(workdir):
  found = [reproducible(record) for record in read_metrics(workdir)] if (workdir / "metrics.jsonl").exists() else []
  for record in found[:-1]:
    record.pop("params_sha256", None)  # a checkpoint made on leaving has one more
  return found


def wait_for(processes, condition, seconds=300):
  limit = time.monotonic() + seconds
  while not condition() and all(process.poll() is None for process in processes) and time.monotonic() < limit:
    time.sleep(0.05)
  assert all(process.poll() is None for process in processes), "the run ended before its time"


def test_killed_then_asked_to_stop_then_resumed(tmp_path):
  workdir = tmp_path / "run"
  killed = start(workdir, 1000)
  wait_for(killed, lambda: (workdir / "checkpoints" / "2.manifest.json").exists())
  for process in killed:
    process.send_signal(signal.SIGKILL)
  two_processes.finish(killed)

  stopped = start(workdir, 1000)
  before = records(workdir)[-1]["step"]
  wait_for(stopped, lambda: records(workdir)[-1]["step"] > before)
  stopped[1].send_signal(signal.SIGTERM)  # one of them is enough
  codes, _, errors = two_processes.finish(stopped)
  assert codes == [75, 75], errors[0][-3000:] + errors[1][-3000:]
  last = records(workdir)[-1]["step"]
  assert (workdir / "checkpoints" / f"{last}.manifest.json").exists()
  assert [text.splitlines()[-1] for text in errors] == [
    f"preempted: stopped after step {last}, checkpoint saved; run the same command again to go on"
  ] * 2

  steps = last + 2
  first, second = run(workdir, steps)
  assert f"going on after step {last}" in first and f"train {steps}/{steps}" in first
  assert "train" not in second and "going on" not in second  # one speaks

  unbroken = tmp_path / "unbroken"
  run(unbroken, steps)
  found = records(unbroken)
  assert records(workdir) == found and "params_sha256" in found[-1]
  assert [record["step"] for record in found] == list(range(steps + 1))  # written once
  assert found[-1]["updates"] > steps / 2
  for path in (unbroken / "rollouts").iterdir():
    assert (workdir / "rollouts" / path.name).read_text() == path.read_text()
  manifest = json.loads((unbroken / "checkpoints" / f"{steps}.manifest.json").read_text())
  assert manifest["environment"]["processes"] == 2
