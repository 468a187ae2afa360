"""A run of two processes on one workdir: killed, asked to stop, and resumed, it is that of two that were left alone."""

import json
import os
import pathlib
import signal
import time

import pytest

from posttrain_jax.pipelines.journal import read_metrics, reproducible
from tests import two_processes
from tests.pipelines.small_run import OVERRIDES

STEPS = 6
# The policy is sharded over both processes (fsdp) and a process's four devices are two samplers' tensor axes.
MORE = {
  "steps": STEPS,
  "mesh.data": 1,
  "mesh.fsdp": 4,
  "mesh.tensor": 2,
  "model.num_kv_heads": 2,
  "learner.updates_per_step": 1,
  "warmup.steps": 4,
  "warmup.batch_size": 8,
  "warmup.eval.every": 4,
  "eval.sets.heldout.prompts.per_difficulty": 2,
  "logging.report": False,
}


def start(workdir, **more):
  flags = [f"--config.{name}={value}" for name, value in {**OVERRIDES, **MORE, **more}.items()]
  return two_processes.start("-m", "experiments.dapo", f"--workdir={workdir}", *flags)


def records(workdir):
  found = [reproducible(record) for record in read_metrics(workdir)] if (workdir / "metrics.jsonl").exists() else []
  for record in found:
    record.pop("params_sha256", None)  # a checkpoint made on leaving has one more
  return found


def wait_for(processes, condition, seconds=120):
  limit = time.monotonic() + seconds
  while not condition() and all(process.poll() is None for process in processes) and time.monotonic() < limit:
    time.sleep(0.05)
  assert all(process.poll() is None for process in processes), "the run ended before its time"


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("unbroken") / "run"
  codes, outputs, errors = two_processes.finish(start(workdir))
  assert codes == [0, 0], errors[0][-3000:] + errors[1][-3000:]
  assert "train 6/6" in errors[0] and "train" not in errors[1]  # one speaks
  assert outputs == ("", "")
  return workdir


def test_what_is_written_is_written_once(unbroken):
  found = records(unbroken)
  assert [record["step"] for record in found] == list(range(STEPS + 1))
  assert found[-1]["updates"] >= STEPS - 1
  assert sorted(path.name for path in (unbroken / "rollouts").iterdir()) == [
    f"step_{step:06d}.jsonl" for step in range(1, STEPS + 1)
  ]
  for step in range(1, STEPS + 1):
    samples = [json.loads(line) for line in (unbroken / "rollouts" / f"step_{step:06d}.jsonl").read_text().splitlines()]
    drawn = [sample["prompt_index"] for sample in samples]
    assert len(set(drawn)) > 1  # both processes drew
  assert not list(pathlib.Path(unbroken).rglob("*.tmp"))
  assert json.loads((unbroken / "checkpoints" / "6.manifest.json").read_text())["environment"]["processes"] == 2


def test_killed_then_asked_to_stop_then_resumed(unbroken, tmp_path):
  workdir = tmp_path / "run"
  killed = start(workdir)
  wait_for(killed, lambda: len(records(workdir)) >= 3)
  for process in killed:
    process.send_signal(signal.SIGKILL)
  two_processes.finish(killed)

  stopped = start(workdir)
  wait_for(stopped, lambda: (workdir / "checkpoints" / "2.manifest.json").exists() and len(records(workdir)) >= 4)
  os.kill(stopped[1].pid, signal.SIGTERM)  # one of them is enough
  codes, _, errors = two_processes.finish(stopped)
  assert codes == [75, 75], errors[0][-3000:] + errors[1][-3000:]
  last = records(workdir)[-1]["step"]
  assert 3 <= last < STEPS and (workdir / "checkpoints" / f"{last}.manifest.json").exists()
  assert errors[0].splitlines()[-1] == f"preempted: preempted after step {last}, checkpoint saved"

  codes, _, errors = two_processes.finish(start(workdir))
  assert codes == [0, 0], errors[0][-3000:] + errors[1][-3000:]
  assert f"going on after step {last}" in errors[0]
  assert records(workdir) == records(unbroken)
  assert read_metrics(workdir)[-1]["params_sha256"] == read_metrics(unbroken)[-1]["params_sha256"]
