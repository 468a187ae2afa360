"""Pretrains models of several widths on the same tokens, and draws their learning curves.

    python -m experiments.pretraining_widths --config.run.corpus.path=PREPARED --workdir=DIR

DIR gets a run for each width, widths.json and widths.png. Run again on the same DIR to go on. The last line printed is
one JSON object. Exit codes: 0 done, 2 bad config or input, 75 preempted after a checkpoint, 1 anything else.
"""

import json

from experiments import flags


def main(config, workdir):
  from posttrain_jax.studies import pretraining_widths

  print(json.dumps(pretraining_widths.study(config, workdir)))


if __name__ == "__main__":
  flags.run(main, default="pretraining_widths")
