"""Pretrains a model on the shards of experiments.prepare, and compares its cost with an estimate.

    python -m experiments.pretrain --config=configs/pretrain.py --config.corpus.path=PREPARED --workdir=DIR

DIR is a run's directory, as that of experiments.sft. DIR/extended is one, too: the second phase, with longer rows. The
last line printed is one JSON object: loss on held-out documents, tokens, estimated and actual cost. Run again on the
same DIR to go on. Exit codes: 0 done, 2 bad config or input, 75 preempted after a checkpoint, 1 anything else.
"""

import json

from experiments import flags


def main(config, workdir):
  from posttrain_jax.recipes.pretraining import priced_pretraining

  print(json.dumps(priced_pretraining(config, workdir)))


if __name__ == "__main__":
  flags.run(main, default="pretrain")
