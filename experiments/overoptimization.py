"""Studies over-optimisation by best-of-n: gold against proxy reward over √KL.

    python -m experiments.overoptimization --config=configs/NAME.py --config.FIELD=value --workdir=DIR

Without --config it takes configs/tiny_overoptimization.py, which runs in minutes on two CPU cores. Run again on the
same DIR to go on. The last line printed is one JSON object. Exit codes: 0 done, 2 bad config or input, 75 preempted at
the end of a stage, 1 anything else.
"""

import json
import time

from experiments import flags


def main(config, workdir):
  from posttrain_jax.studies import overoptimization

  start = time.perf_counter()
  found = overoptimization.study(config, workdir)
  print(json.dumps({**found, "seconds": round(time.perf_counter() - start, 2)}))


if __name__ == "__main__":
  flags.run(main, default="tiny_overoptimization")
