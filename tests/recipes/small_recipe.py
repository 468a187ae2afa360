"""Runs a small form of configs/recipes/arithmetic.py in a process that may die of SIGKILL.

python -m tests.recipes.small_recipe DIR [within|after STAGE]
"""

import os
import pathlib
import signal
import subprocess
import sys

from absl import flags

from configs.recipes import arithmetic
from posttrain_jax.recipes import records
from posttrain_jax.recipes.load import load_recipe
from posttrain_jax.recipes.run import run_recipe
from posttrain_jax.runs.keeper import Keeper

ROOT = pathlib.Path(__file__).resolve().parents[2]
_MODEL = dict(num_layers=1, embed_dim=32, mlp_dim=64, num_heads=2, num_kv_heads=1, head_dim=16, unroll=1)
_CHANGES = {
  "rounds": 1,
  **{f"sft.model.{name}": value for name, value in _MODEL.items()},
  "sft.steps": 6,
  "sft.demonstrations.per_difficulty": 60,
  "reward_model.epochs": 0,
  "reward_model.steps": 4,
  "reward_model.preferences.per_difficulty": 30,
  "reward_model.optimizer.schedule": "constant",
  "reward_model.eval.every": 4,
  "collect.prompts.per_difficulty": 4,
  "collect.rollout.prompts": 8,
  "collect.rewards.workers": 0,
  "chosen.steps": 4,
  "dpo.epochs": 0,
  "dpo.steps": 4,
  "dpo.batch_size": 4,
  "dpo.rewards.workers": 0,
  "measures.rewards.workers": 0,
  "measures.eval.sets.heldout.prompts.per_difficulty": 4,
  **{f"{name}.checkpoint.every": 2 for name in ("sft", "reward_model", "chosen", "dpo")},
}


def small_config():
  config = arithmetic.get_config()
  config.update_from_flattened_dict(_CHANGES)
  return config


def run(directory, *kill):
  """Runs the recipe in a process of its own, to the end or until it dies."""
  environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
  command = [sys.executable, "-m", "tests.recipes.small_recipe", str(directory), *kill]
  done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800)
  assert done.returncode == (-signal.SIGKILL if kill else 0), done.stderr[-3000:]


def _die_within(name):
  end = Keeper.end

  def end_and_die(self, step, *arguments, **options):
    last = end(self, step, *arguments, **options)
    if self._directory.parent.name == name and step == 2:
      os.kill(os.getpid(), signal.SIGKILL)
    return last

  Keeper.end = end_and_die


def _die_after(name):
  write = records.write

  def write_and_die(directory, stage, record):
    write(directory, stage, record)
    if stage == name and record.finished:
      os.kill(os.getpid(), signal.SIGKILL)

  records.write = write_and_die


if __name__ == "__main__":
  flags.FLAGS.mark_as_parsed()
  if len(sys.argv) > 2:
    {"within": _die_within, "after": _die_after}[sys.argv[2]](sys.argv[3])
  run_recipe(load_recipe("arithmetic.py", vars(arithmetic), small_config()), sys.argv[1])
