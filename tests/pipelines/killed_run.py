"""Runs a small config in a process that dies of SIGKILL as soon as a given step has ended.

A checkpoint that is due then is still being written.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys

from absl import flags

from configs import tiny_dapo, tiny_dpo, tiny_ppo, tiny_reward_model
from posttrain_jax.pipelines import dpo, grpo, ppo, reward_model
from posttrain_jax.runs.keeper import Keeper
from tests.pipelines.small_offline import small

ROOT = pathlib.Path(__file__).resolve().parents[2]
METHODS = {
  "dapo": (grpo.train, tiny_dapo),
  "dpo": (dpo.train, tiny_dpo),
  "ppo": (ppo.train, tiny_ppo),
  "reward_model": (reward_model.train, tiny_reward_model),
}


def run_and_kill(method: str, changes: dict, workdir: pathlib.Path, *, after: int) -> None:
  """Trains `small(config, **changes)` until step `after` has ended, and no further."""
  command = [sys.executable, "-m", "tests.pipelines.killed_run", method, json.dumps(changes), str(workdir), str(after)]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
  assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]


def main(method: str, changes: str, workdir: str, after: str) -> None:
  flags.FLAGS.mark_as_parsed()  # as in conftest
  end = Keeper.end

  def end_and_die(self, step, *arguments, **options):
    end(self, step, *arguments, **options)
    if step == int(after):
      os.kill(os.getpid(), signal.SIGKILL)
    return False

  Keeper.end = end_and_die
  train, config = METHODS[method]
  train(small(config, **json.loads(changes)), workdir)


if __name__ == "__main__":
  main(*sys.argv[1:])
