"""Builds the base model of the assistant world, which all recipes start from.

    python -m experiments.assistant_base --workdir=DIR [--config=configs/assistant_base.py:wide] [--config.FIELD=value]

A base model that was built before with the same config, code and packages is taken from the cache. The last line
printed is one JSON object: the measures of the model. Exit codes: 0 done, 2 bad config or input, or a base model that
RL could not start from; 75 preempted after a checkpoint, 1 anything else.
"""

import json

from experiments import flags


def main(config, workdir):
  from posttrain_jax.pipelines import assistant_base

  print(json.dumps(assistant_base.build(config, workdir)))


if __name__ == "__main__":
  flags.run(main, default="assistant_base")
