"""Runs an ablation's jobs, each in its own process; one failure does not stop others.

A job's exit code and time go to NAME.result.json beside its workdir, its output to NAME.log. A finished job with the
same config is not started again; an unfinished one resumes its own workdir, and its time is that of all starts that
ended. With several at a time each gets its share of the CPUs and keeps to it, so that a run computes the same bits
whatever runs beside it; how many CPUs it sees is part of what bits depend on. If this process is killed, its jobs are,
too (`parallel.supervisor`), so the next start finds their workdirs free.
"""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from posttrain_jax import atomic_files
from posttrain_jax.parallel.supervisor import Supervised
from posttrain_jax.runs.preemption import Preempted, Preemption
from posttrain_jax.studies.ablation_plan import Job

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_POLL_SECONDS = 0.2


@dataclasses.dataclass
class _Running:
  job: Job
  program: Supervised
  started: float
  place: int
  spent: dict[str, float]  # "seconds" and "cpu_seconds" of earlier starts


def result_of(job: Job) -> dict | None:
  """Returns what NAME.result.json says; None if the job has not ended with this config."""
  file = _beside(job, "result.json")
  try:
    if _beside(job, "config.json").read_text("utf-8") != _text(job):
      return None
    return json.loads(file.read_text("utf-8"))
  except FileNotFoundError:
    return None


def finished(job: Job) -> bool:
  """Returns whether the job ended well."""
  found = result_of(job)
  return found is not None and found["exit_code"] == 0


def run_jobs(
  jobs: Sequence[Job], *, parallel: int, preemption: Preemption, say: Callable[[str], None] = print
) -> dict[str, str]:
  """Runs what is not finished yet, in order, at most `parallel` at a time.

  Args:
    jobs: in the order in which to start them; a job stands after those it needs.
    parallel: processes at a time.
    preemption: whether SIGTERM arrived, which is passed on.
    say: gets a line when a job starts or ends.

  Returns:
    Name → what went wrong, of the jobs that failed or could not start.

  Raises:
    Preempted: after SIGTERM, when all running jobs have checkpointed and ended.
  """
  waiting = [job for job in jobs if not finished(job)]
  done = {job.name for job in jobs} - {job.name for job in waiting}
  failed: dict[str, str] = {}
  running: list[_Running] = []
  say(f"{len(done)} of {len(jobs)} runs are finished")
  try:
    while waiting or running:
      if preemption.requested:
        for each in running:
          os.kill(each.program.process.pid, signal.SIGTERM)  # not yet waited for, so the id is still its own
        while running:
          _reap(running, done, failed, say)
        raise Preempted(f"preempted with {len(done)} of {len(jobs)} runs finished")
      for job in list(waiting):
        broken = [name for name in job.needs if name in failed]
        if broken:
          failed[job.name] = f"not started: {broken[0]} failed"
          waiting.remove(job)
          say(f"{job.name}: {failed[job.name]}")
        elif len(running) < parallel and done.issuperset(job.needs):
          waiting.remove(job)
          place = min(set(range(parallel)) - {each.place for each in running})
          running.append(_start(job, place, parallel))
          say(f"{job.name}: started")
      _reap(running, done, failed, say)
  finally:
    for each in running:  # after an exception only
      each.program.end()
  return failed


def _reap(running: list[_Running], done: set[str], failed: dict[str, str], say: Callable[[str], None]) -> None:
  """Takes note of the processes that have ended; waits a moment first."""
  time.sleep(_POLL_SECONDS)
  for each in list(running):
    pid, status, usage = os.wait4(each.program.process.pid, os.WNOHANG)
    if pid == 0:
      continue
    code = os.waitstatus_to_exitcode(status)
    each.program.process.returncode = code  # so that Popen does not wait for it again
    each.program.end()
    running.remove(each)
    seconds, cpu = time.monotonic() - each.started, usage.ru_utime + usage.ru_stime
    content = {
      "exit_code": code,
      "seconds": round(each.spent["seconds"] + seconds, 1),
      "cpu_seconds": round(each.spent["cpu_seconds"] + cpu, 1),
    }
    atomic_files.write_text(_beside(each.job, "result.json"), json.dumps(content) + "\n")
    if code == 0:
      done.add(each.job.name)
      say(f"{each.job.name}: finished in {seconds:.0f} s ({cpu:.0f} s of CPU time)")
    else:
      log = _beside(each.job, "log")
      lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
      failed[each.job.name] = f"exit code {code}, {log}: {lines[-1] if lines else 'no output'}"
      say(f"{each.job.name}: {failed[each.job.name]}")


def _start(job: Job, place: int, parallel: int) -> _Running:
  config = _beside(job, "config.json")
  config.parent.mkdir(parents=True, exist_ok=True)
  spent = _spent(job)
  _beside(job, "result.json").unlink(missing_ok=True)  # before the config that it belonged to
  atomic_files.write_text(config, _text(job))
  command = [sys.executable, "-m", f"experiments.{job.program}"]
  command += [f"--config={_ROOT / 'configs' / 'from_json.py'}:{config}", f"--workdir={job.path}"]
  cpus = sorted(os.sched_getaffinity(0))
  own = set(cpus[place::parallel]) or set(cpus)
  os.sched_setaffinity(0, own)  # which the process started by this thread inherits
  try:
    with open(_beside(job, "log"), "ab") as log:
      program = Supervised(command, cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
  finally:
    os.sched_setaffinity(0, cpus)
  return _Running(job, program, time.monotonic(), place, spent)


def _spent(job: Job) -> dict[str, float]:
  """Returns the time of earlier starts of the same workdir.

  Their config may have had fewer steps.
  """
  file = _beside(job, "result.json")
  found = json.loads(file.read_text("utf-8")) if file.exists() and job.path.exists() else {}
  return {name: found.get(name, 0.0) for name in ("seconds", "cpu_seconds")}


def _beside(job: Job, ending: str) -> pathlib.Path:
  return job.path.with_name(f"{job.path.name}.{ending}")


def _text(job: Job) -> str:
  return json.dumps(job.config.to_dict(), indent=2) + "\n"
