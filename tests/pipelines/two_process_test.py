"""Tests a run of two processes on one workdir.

Killed and resumed, it equals a run that nothing interrupted until it was asked to stop.
"""

import json
import shutil
import signal
import time

from posttrain_jax.learner.checkpoint_folder import finished_steps
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


def records(workdir):
  found = [reproducible(record) for record in read_metrics(workdir)] if (workdir / "metrics.jsonl").exists() else []
  for record in found[:-1]:
    record.pop("params_sha256", None)  # a checkpoint made on leaving has one more
  return found


def last_checkpoint(workdir):
  folder = workdir / "checkpoints"
  return max(finished_steps(folder), default=0) if folder.exists() else 0


def wait_for(processes, condition, seconds=300):
  limit = time.monotonic() + seconds
  while not condition() and all(process.poll() is None for process in processes) and time.monotonic() < limit:
    time.sleep(0.05)
  assert all(process.poll() is None for process in processes), "the run ended before its time"


def copy_as_killed(processes, workdir, copy):
  """Copies a workdir while its processes are stopped: the copy is what SIGKILL would leave at this moment."""
  for process in processes:
    process.send_signal(signal.SIGSTOP)
  shutil.copytree(workdir, copy)
  for process in processes:
    process.send_signal(signal.SIGCONT)


def test_killed_then_resumed_and_asked_to_stop(tmp_path):
  workdir, unbroken = tmp_path / "run", tmp_path / "unbroken"
  stopped = start(unbroken, 1000)
  wait_for(stopped, lambda: last_checkpoint(unbroken) > 0)
  copy_as_killed(stopped, unbroken, workdir)
  reached = last_checkpoint(workdir)
  wait_for(stopped, lambda: last_checkpoint(unbroken) > reached)
  stopped[1].send_signal(signal.SIGTERM)  # one of them is enough
  codes, _, errors = two_processes.finish(stopped)
  assert codes == [75, 75], errors[0][-3000:] + errors[1][-3000:]
  steps = records(unbroken)[-1]["step"]
  assert steps == last_checkpoint(unbroken)
  assert [text.splitlines()[-1] for text in errors] == [
    f"preempted: stopped after step {steps}, checkpoint saved; run the same command again to go on"
  ] * 2

  codes, _, (first, second) = two_processes.finish(start(workdir, steps))
  assert codes == [0, 0], first[-3000:] + second[-3000:]
  assert f"going on after step {reached}" in first and f"train {steps}/{steps}" in first
  assert "train" not in second and "going on" not in second  # one speaks

  found, resumed = records(unbroken), records(workdir)
  evaluated = {name for name in resumed[-1] if name.startswith("eval/")}  # the last of its steps
  assert evaluated and evaluated <= found[0].keys()
  resumed[-1] = {name: value for name, value in resumed[-1].items() if name not in evaluated}
  assert resumed == found and "params_sha256" in found[-1]
  assert [record["step"] for record in found] == list(range(steps + 1))  # written once
  assert found[-1]["updates"] > steps / 2
  for path in (unbroken / "rollouts").iterdir():
    assert (workdir / "rollouts" / path.name).read_text() == path.read_text()
  for path in (workdir, unbroken):
    manifest = json.loads((path / "checkpoints" / f"{steps}.manifest.json").read_text())
    assert manifest["environment"]["processes"] == 2
