"""Makes workdirs of runs that were killed.

Either a process dies of SIGKILL, or a run's workdir is copied while it is what SIGKILL would leave. The second way
costs no process, which would compile all programs anew.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from absl import flags

from configs import tiny_dapo, tiny_dpo, tiny_ppo, tiny_reward_model
from posttrain_jax.learner.checkpoint import Checkpointer
from posttrain_jax.learner.checkpoint_folder import finished_steps
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

# For tests of the recovery: a process that really dies is slow.
PROCESS = pytest.mark.parametrize(
  "process", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["copy", "process"]
)


def killed_at(workdir: pathlib.Path, step: int) -> pathlib.Path:
  """Returns the path of a copy that `copied` makes."""
  return workdir.with_name(f"{workdir.name}_killed_{step}")


@contextlib.contextmanager
def copied(workdir: pathlib.Path, *steps: int) -> Iterator[None]:
  """Copies a run's workdir at each of some steps that save.

  The step's metrics are written then and its checkpoint is not begun. The checkpoint before it is complete, so no file
  is being written, and the copy is what SIGKILL would leave.
  """
  save = Checkpointer.save

  def copy_and_save(self, step, *arguments, **options):
    if step in steps and self._directory.parent == workdir:  # not the warm-up's
      self.wait()
      shutil.copytree(workdir, killed_at(workdir, step))
    save(self, step, *arguments, **options)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(Checkpointer, "save", copy_and_save)
    yield
  for step in steps:
    last = finished_steps(killed_at(workdir, step) / "checkpoints")[-1]  # else the whole run would start again
    assert 0 < last < step


def run_and_kill(method: str, changes: dict, workdir: pathlib.Path, *, after: int) -> None:
  """Trains `small(config, **changes)` in a process that dies of SIGKILL as soon as step `after` has ended.

  A checkpoint that is due then is still being written.
  """
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
