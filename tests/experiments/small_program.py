"""Holds two programs, one with a config, that tests start from any directory."""

CONFIG = """
import ml_collections
from ml_collections import config_dict

def get_config(arg=None):
  return ml_collections.ConfigDict({
    "seed": 0, "steps": 3, "action": arg or "print", "on": True, "limit": config_dict.placeholder(int), "untyped": None,
    "model": {"width": 64, "layers": (1, 2)}, "optimizer": {"learning_rate": 1e-3},
  })
"""

PROGRAM = '''
"""What the program does."""
import pathlib, sys
import numpy as np
from experiments import arguments, flags

def main(config, workdir):
  if config.action == "input":
    from posttrain_jax.types import InputError
    raise InputError("prompts.jsonl:3: found\\n'x', expected JSON")
  if config.action == "preempted":
    from posttrain_jax.runs.preemption import Preempted
    raise Preempted("checkpoint of step 7 is finished")
  if config.action == "full":
    raise OSError(28, "No space left on device", "/run/report.html")
  if config.action == "rewards":
    from posttrain_jax.rewards.failures import FailureLimit
    reasons = {0: "OSError: No space left\\non device (mine.py:7)"}
    FailureLimit(1.0).add("mine", np.ones(1, bool), [{"prompt": "2+2"}], reasons, 1)
  if config.action == "interrupted":
    raise KeyboardInterrupt
  if config.action == "bug":
    raise ValueError("a bug")
  print(workdir, config.steps, config.on, config.limit, config.model.layers, config.is_locked, "jax" in sys.modules)

if __name__ == "__main__":
  arguments.CONFIGS = pathlib.Path(__file__).parent / "configs"
  flags.run(main, default="tiny")
'''

PLAIN = '''
"""Scores rows."""
from absl import flags as absl_flags
from experiments import flags

LIMIT = absl_flags.DEFINE_integer("limit", 5, "how many rows")

if __name__ == "__main__":
  flags.run_plain(lambda: print(LIMIT.value))
'''


def assert_refused(child, message):
  assert child.returncode == 2, child.stderr
  assert child.stderr == f"error: {message}\n"
  assert child.stdout == ""
