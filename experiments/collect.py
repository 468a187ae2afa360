"""Makes demonstrations and pairs: rejection sampling, distillation, or edited answers, as `config.source` says.

    python -m experiments.collect --config=configs/NAME.py --config.FIELD=value --workdir=DIR
    python -m experiments.sft --config.demonstrations.path=DIR/demonstrations.jsonl --workdir=OTHER

Without --config it takes configs/tiny_collect.py, which runs in a minute on two CPU cores. DIR/pairs.jsonl is for
experiments.dpo and experiments.reward_model (`--config.preferences.path`). The last line printed is one JSON object.
Run again on the same DIR to go on. Exit codes: 0 done, 2 bad config or input, 75 preempted, 1 anything else.
"""

import json
import time

from experiments import flags


def main(config, workdir):
  from posttrain_jax.pipelines.collect import collect

  start = time.perf_counter()
  counts = collect(config, workdir)
  print(json.dumps({"source": config.source, **counts, "seconds": round(time.perf_counter() - start, 2)}))


if __name__ == "__main__":
  flags.run(main, default="tiny_collect")
