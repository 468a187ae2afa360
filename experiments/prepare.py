"""Makes training shards of raw text, and says what was dropped.

It drops documents by rule, duplicates, near duplicates, and documents with passages of evaluation sets.

    python -m experiments.prepare --config=configs/prepare.py --config.input.paths=FOLDER --workdir=DIR

DIR/shards has the documents in the array_record format, DIR/report.md what each step dropped, with samples. Run again
on the same DIR to go on. The last line printed is one JSON object. Exit codes: 0 done, 2 bad config or input, 75
preempted, 1 anything else.
"""

import json
import time

from experiments import flags


def main(config, workdir):
  from posttrain_jax.pipelines.prepare import prepare

  start = time.perf_counter()
  print(json.dumps({**prepare(config, workdir), "seconds": round(time.perf_counter() - start, 2)}))


if __name__ == "__main__":
  flags.run(main, default="prepare")
