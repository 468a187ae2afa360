"""Trains a policy on demonstrations (supervised fine-tuning).

    python -m experiments.sft --config=configs/NAME.py --config.FIELD=value --workdir=DIR
    python -m experiments.sft --config=configs/NAME.py --config.FIELD=value --inspect=5

Without --config it takes configs/tiny_sft.py, which runs in minutes on two CPU cores. Run again on the same DIR to go
on. With --inspect it prints the first demonstrations token by token, what is learned in colour, and trains nothing.
Exit codes: 0 done, 2 bad config or input, 75 preempted after a checkpoint, 1 anything else.
"""

import json

from absl import flags as absl_flags

from experiments import flags

_INSPECT = absl_flags.DEFINE_integer("inspect", 0, "print so many demonstrations instead of training", lower_bound=0)


def main(config, workdir):
  from posttrain_jax.pipelines import sft
  from posttrain_jax.types import InputError

  if _INSPECT.value:
    print(json.dumps(sft.inspect(config, _INSPECT.value)))
  elif not workdir:
    raise InputError("--workdir: missing, expected a directory for the run's files")
  else:
    sft.train(config, workdir)


if __name__ == "__main__":
  flags.run(main, default="tiny_sft", needs_workdir=False, distributed=True)
