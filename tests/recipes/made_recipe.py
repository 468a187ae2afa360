"""Makes recipes whose stages write a line of text, so that they cost nothing, and runs one that is killed."""

import json
import os
import pathlib
import signal
import subprocess
import sys

from absl import flags
from ml_collections import ConfigDict

from configs.recipes.costs import costs
from posttrain_jax.recipes.load import Recipe
from posttrain_jax.recipes.prices import CostSettings
from posttrain_jax.recipes.recipe import Stage
from posttrain_jax.recipes.run import run_recipe
from posttrain_jax.recipes.runners import function
from posttrain_jax.runs.settings import parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE = "rows.jsonl"


def write(config, folder):
  """Writes a row with the config's text, after that of the file at its path."""
  before = pathlib.Path(config.path).read_text() if config.path else ""
  if config.kill_at and (folder.parent / "killed").exists() is False:
    (folder / FILE).write_text("half")
    (folder.parent / "killed").write_text("")
    os.kill(os.getpid(), signal.SIGKILL)
  (folder / FILE).write_text(before + json.dumps({"text": config.text}) + "\n")
  with open(folder.parent / "calls", "a") as calls:
    calls.write(f"{folder.name}\n")
  return {"rows": before.count("\n") + 1}


WRITE = function(write, FILE)


def stage(name, text=None, before=None, *, run=WRITE, kill_at=False):
  config = ConfigDict(dict(text=text or name, path="", kill_at=kill_at))
  return Stage(name, run=run, config=config, inputs={"path": before.file(FILE)} if before else {})


def chain(*names, kill_at="", **texts):
  """Makes stages each of which needs the one before it."""
  stages = []
  for name in names:
    before = stages[-1] if stages else None
    stages.append(stage(name, texts.get(name), before, kill_at=name == kill_at))
  return stages


def recipe(stages, name="made"):
  return Recipe(name, stages, parse(CostSettings, costs()), "")


def run(stages, directory, said=None, name="made", accepted=()):
  say = (lambda text: None) if said is None else said.append
  return run_recipe(recipe(stages, name), str(directory), accepted=accepted, say=say)


def calls(directory):
  """Returns the stages that ran since the last look."""
  file = directory / "calls"
  found = file.read_text().splitlines() if file.exists() else []
  file.unlink(missing_ok=True)
  return found


def run_and_die(directory, kill_at):
  """Runs stages a, b and c in a process that dies of SIGKILL within one of them."""
  command = [sys.executable, "-m", "tests.recipes.made_recipe", str(directory), kill_at]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
  assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]


if __name__ == "__main__":
  flags.FLAGS.mark_as_parsed()
  run(chain("a", "b", "c", kill_at=sys.argv[2]), pathlib.Path(sys.argv[1]))
