"""Measures forgetting: fine-tunes at several learning rates and draws accuracy, perplexity and distinct-2 over epochs.

    python -m experiments.forgetting --config=configs/NAME.py --config.FIELD=value --workdir=DIR

Without --config it takes configs/tiny_forgetting.py, which runs in minutes on two CPU cores. DIR/forgetting.png is the
picture, DIR/forgetting.json its numbers; each DIR/lr_* is the workdir of a supervised run. The last line printed is one
JSON object. Run again on the same DIR to go on. Exit codes: 0 done, 2 bad config or input, 75 preempted after a
checkpoint, 1 anything else.
"""

import json
import time

from experiments import flags


def main(config, workdir):
  from posttrain_jax.studies.forgetting import study

  start = time.perf_counter()
  result = study(config, workdir)
  print(json.dumps({**result, "seconds": round(time.perf_counter() - start, 2)}))


if __name__ == "__main__":
  flags.run(main, default="tiny_forgetting")
