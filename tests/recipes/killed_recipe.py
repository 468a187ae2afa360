"""Runs small recipes in processes that a signal ends within or after a stage.

Then it reads what must stay the same.

python -m tests.recipes.killed_recipe RECIPE DIR [SIGNAL within|after STAGE]
"""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest
from absl import flags

from posttrain_jax.recipes import alignment, records
from posttrain_jax.recipes.run import run_recipe
from posttrain_jax.runs.journal import METRICS_FILE, read_metrics, reproducible
from posttrain_jax.runs.keeper import Keeper
from posttrain_jax.runs.preemption import Preempted
from tests.compiler_flags import one_device
from tests.recipes.small_recipe import small_recipe

ROOT = pathlib.Path(__file__).resolve().parents[2]
PREEMPTED = 75
_DIGEST = re.compile(rb"\b[0-9a-f]{12}\b")  # the first digits of a sha256, as in a model card


class Killed(BaseException):
  """Stands in for SIGKILL in a process that goes on: nothing catches it."""


def die():
  raise Killed


def kill():
  os.kill(os.getpid(), signal.SIGKILL)


def stop():
  os.kill(os.getpid(), signal.SIGTERM)


def run(directory, name, *struck):
  """Runs a recipe in a process of its own.

  It runs to the end, or until (signal, "within" or "after", stage) strikes it."""
  command = [sys.executable, "-m", "tests.recipes.killed_recipe", name, str(directory), *map(str, struck)]
  done = subprocess.run(command, cwd=ROOT, env=one_device(), capture_output=True, text=True, timeout=1800)
  expected = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: PREEMPTED}[struck[0]] if struck else 0
  assert done.returncode == expected, done.stderr[-3000:]


@contextlib.contextmanager
def struck(strike, place, stage, step=2):
  """Calls `strike` once, within or after a stage.

  Within means when it has work of its own on disk; after, when its record is kept.

  A stage that trains is struck after a step that has just been saved, a measurement when its answers are written.
  """
  end, write, plot, once = Keeper.end, records.write, alignment.plot_reliabilities, [strike]

  def strike_once(now):
    if now and once:
      once.pop()()

  def end_of_step(self, ended, *arguments, **options):
    now = place == "within" and self._directory.parent.name == stage and ended == step
    strike_once(now and strike is stop)  # before the run looks for signals
    last = end(self, ended, *arguments, **options)
    strike_once(now)
    return last

  def plotted(path, diagrams):
    strike_once(place == "within" and path.parent.name == stage)
    plot(path, diagrams)

  def recorded(directory, name, record):
    write(directory, name, record)
    strike_once(place == "after" and name == stage and record.finished)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(Keeper, "end", end_of_step)
    patch.setattr(alignment, "plot_reliabilities", plotted)
    patch.setattr(records, "write", recorded)
    yield
    assert not once, f"nothing was {place} {stage}"


def bits(directory, stages):
  """Returns what the stages of a recipe made: their metrics, with the digests of parameters, and their data.

  Texts may name the recipe's directory, and a model card has digests of files that also tell the time: those are left
  out.
  """
  told = lambda content: _DIGEST.sub(b"", content.replace(bytes(directory), b"DIR"))  # noqa: E731
  found = {}
  for stage in stages:
    folder = directory / stage.name
    metrics = json.loads((directory / f"{stage.name}.stage.json").read_text())["metrics"]
    found[stage.name] = reproducible(metrics)
    if (folder / METRICS_FILE).exists():
      found[f"{stage.name}/{METRICS_FILE}"] = [reproducible(record) for record in read_metrics(folder)]
    for place in (folder / name for name in stage.run.files if name != METRICS_FILE):
      files = sorted(place.rglob("*")) if place.is_dir() else [place] * place.exists()
      found |= {str(file.relative_to(directory)): told(file.read_bytes()) for file in files}
  return found


def broken_off(run_to_the_end, *breaks):
  """Runs again and again until one run is not broken off.

  Args:
    run_to_the_end: runs a recipe, or goes on with it.
    *breaks: (`die` or `stop`, "within" or "after", stage, step) of each run before the last one.
  """
  for strike, *place in breaks:
    with struck(strike, *place), pytest.raises(Killed if strike is die else Preempted):
      run_to_the_end()
  return run_to_the_end()


if __name__ == "__main__":
  flags.FLAGS.mark_as_parsed()
  name, directory, *places = sys.argv[1:]
  with contextlib.ExitStack() as stack:
    if places:
      stack.enter_context(struck({signal.SIGKILL: kill, signal.SIGTERM: stop}[int(places[0])], *places[1:]))
    try:
      run_recipe(small_recipe(name), directory)
    except Preempted:
      sys.exit(PREEMPTED)
