"""Tests an ablation's jobs with made-up programs in place of training runs."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import ml_collections
import pytest

from posttrain_jax.runs.preemption import Preempted, Preemption
from posttrain_jax.studies import ablation_jobs
from posttrain_jax.studies.ablation_jobs import finished, run_jobs
from posttrain_jax.studies.ablation_plan import Job

PROGRAM = """
import json, os, pathlib, signal, sys, time
config, workdir = (arg.split("=", 1)[1] for arg in sys.argv[1:])
settings, workdir = json.loads(pathlib.Path(config.split(":", 1)[1]).read_text()), pathlib.Path(workdir)
workdir.mkdir(exist_ok=True)
starts = workdir / "starts"
starts.write_text((starts.read_text() if starts.exists() else "") + f"{sorted(os.sched_getaffinity(0))}\\n")
signal.signal(signal.SIGTERM, lambda *args: sys.exit(75))
time.sleep(settings["seconds"])
print("bye")
sys.exit(settings["exit"])
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
  (tmp_path / "experiments").mkdir()
  (tmp_path / "experiments" / "made_up.py").write_text(PROGRAM)
  monkeypatch.setattr(ablation_jobs, "_ROOT", tmp_path)
  monkeypatch.setattr(ablation_jobs, "_POLL_SECONDS", 0.02)

  def make(name, *needs, code=0, seconds=0.0):
    config = ml_collections.ConfigDict({"exit": code, "seconds": seconds, "pair": (1, 2)})
    return Job(name, "made_up", config, tmp_path / "runs" / name, tuple(needs))

  return make


def run(jobs, parallel=1, said=None):
  with Preemption() as preemption:
    say = (lambda text: None) if said is None else said.append
    return run_jobs(jobs, parallel=parallel, preemption=preemption, say=say)


def starts(job):
  file = job.path / "starts"
  return file.read_text().splitlines() if file.exists() else []


def test_what_is_finished_is_not_run_again(job):
  jobs = [job("seed0/warmup"), job("seed0/naive", "seed0/warmup")]
  assert run(jobs) == {} and run(jobs) == {}
  assert all(finished(each) and len(starts(each)) == 1 for each in jobs)
  result = json.loads((jobs[1].path.parent / "naive.result.json").read_text())
  assert result["exit_code"] == 0 and result["seconds"] >= 0 and result["cpu_seconds"] >= 0
  assert "bye" in (jobs[1].path.parent / "naive.log").read_text()


def test_another_config_is_another_run(job):
  assert run([job("seed0/naive")]) == {}
  changed = job("seed0/naive", seconds=0.01)
  assert not finished(changed) and run([changed]) == {} and len(starts(changed)) == 2


def test_time_is_that_of_all_starts(job):
  assert run([job("seed0/naive", seconds=0.5)]) == {}
  longer = job("seed0/naive", seconds=0.6)
  file = longer.path.parent / "naive.result.json"
  first = json.loads(file.read_text())
  assert run([longer]) == {}
  second = json.loads(file.read_text())
  assert first["seconds"] >= 0.5 and second["seconds"] >= first["seconds"] + 0.6
  assert second["cpu_seconds"] >= first["cpu_seconds"]


def test_one_failure_does_not_stop_the_others(job):
  jobs = [job("seed0/warmup", code=1), job("seed0/naive", "seed0/warmup"), job("seed1/warmup")]
  said = []
  failed = run(jobs, said=said)
  assert failed["seed0/warmup"].startswith("exit code 1, ") and failed["seed0/warmup"].endswith("warmup.log: bye")
  assert failed["seed0/naive"] == "not started: seed0/warmup failed"
  assert finished(jobs[2]) and not starts(jobs[1]) and not finished(jobs[0])
  assert any("seed1/warmup: finished" in line for line in said)
  # A failed run is tried again the next time.
  run(jobs)
  assert len(starts(jobs[0])) == 2 and len(starts(jobs[2])) == 1


def test_runs_in_parallel_share_the_cpus(job):
  cpus = sorted(os.sched_getaffinity(0))
  jobs = [job(f"seed{i}/naive", seconds=0.3) for i in range(2)]
  begin = time.monotonic()
  assert run(jobs, parallel=2) == {}
  seen = [json.loads(starts(each)[0]) for each in jobs]
  if len(cpus) > 1:
    assert not set(seen[0]) & set(seen[1]) and sorted(seen[0] + seen[1]) == cpus
    assert time.monotonic() - begin < 30
  assert sorted(os.sched_getaffinity(0)) == cpus


def test_sigterm_is_passed_on_and_a_second_start_goes_on(job):
  jobs = [job("seed0/naive", seconds=60), job("seed0/later")]

  def stop():
    while not starts(jobs[0]):
      time.sleep(0.02)
    time.sleep(0.3)  # until its handler is in place
    os.kill(os.getpid(), signal.SIGTERM)

  threading.Thread(target=stop).start()
  with pytest.raises(Preempted, match="0 of 2 runs"):
    run(jobs)
  assert json.loads((jobs[0].path.parent / "naive.result.json").read_text())["exit_code"] == 75
  assert not starts(jobs[1]) and not finished(jobs[0])


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_jobs_end_after_an_exception(job):
  running = job("seed0/naive", seconds=60)

  def say(text):
    if "started" in text:
      wait_for(lambda: starts(running))
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt), Preemption() as preemption:
    run_jobs([running], parallel=1, preemption=preemption, say=say)
  # At once: the supervisor, which ends last, was waited for.
  assert not [pid for pid in pathlib.Path("/proc").glob("[0-9]*") if f"--workdir={running.path}" in command_of(pid)]


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_jobs_end_with_the_process_that_runs_them(job, number):
  running = job("seed0/naive", seconds=60)
  # What ablation_jobs takes from the plan is made up, since it imports JAX.
  program = f"""
import pathlib, signal, sys, types
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background programs ignore it, and theirs, too
sys.path.insert(0, {str(pathlib.Path(__file__).resolve().parents[2])!r})
sys.modules["posttrain_jax.studies.ablation_plan"] = types.SimpleNamespace(Job=None)
from posttrain_jax.studies import ablation_jobs
ablation_jobs._ROOT = pathlib.Path({str(ablation_jobs._ROOT)!r})
config = types.SimpleNamespace(to_dict=lambda: {running.config.to_dict()!r})
path = pathlib.Path({str(running.path)!r})
job = types.SimpleNamespace(name="seed0/naive", program="made_up", config=config, path=path, needs=())
ablation_jobs.run_jobs([job], parallel=1, preemption=types.SimpleNamespace(requested=False))
"""
  run = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  wait_for(lambda: "[" in "".join(starts(running)))
  found = [pid for pid in pathlib.Path("/proc").glob("[0-9]*") if f"--workdir={running.path}" in command_of(pid)]
  assert len(found) == 2  # the supervisor and the job
  run.send_signal(number)
  assert run.wait(timeout=30) == -number
  wait_for(lambda: not any(f"--workdir={running.path}" in command_of(pid) for pid in found))


def wait_for(condition):
  deadline = time.monotonic() + 30
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.02)


def command_of(process):
  """Returns the command line of /proc/PID; empty for one that has ended."""
  try:
    return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
  except OSError:
    return ""
