"""Runs an ablation, rows × seeds, and writes its table, curves and report.

    python -m experiments.ablation --config=configs/NAME.py --rows=main --seeds=0-9 --parallel=2 --workdir=DIR

Without --config it takes configs/dapo_ablation.py. --rows takes names of rows, groups of them, or `all`. Each run is a
process of its own, --parallel of them at a time, with its workdir in DIR/seedN/ROW; one that fails does not stop the
others. Run again on the same DIR to go on; --summarize only writes the table, the curves and DIR/report.html again. The
last line printed is one JSON object. Exit codes: 0 done, 2 bad config or input, 75 preempted after checkpoints, 1 some
run failed, or anything else.
"""

import json
import sys
import time

from absl import flags as absl_flags

from experiments import flags

_ROWS = absl_flags.DEFINE_string("rows", "main", "rows or groups of rows, with commas between them; or all")
_SEEDS = absl_flags.DEFINE_string("seeds", "0-9", "seeds, such as 0-9 or 0,2,5-7")
_PARALLEL = absl_flags.DEFINE_integer("parallel", 1, "runs at a time, each on its share of the CPUs")
_SUMMARIZE = absl_flags.DEFINE_bool("summarize", False, "run nothing: only summarise what has been run")


def main(config, workdir):
  from posttrain_jax.studies import ablation, ablation_plan, ablation_settings

  start = time.perf_counter()
  ablation_settings.check(config)
  if _SUMMARIZE.value:
    result = ablation.summarize(config, workdir)
  else:
    rows, seeds = ablation_plan.chosen_rows(config, _ROWS.value), ablation_plan.chosen_seeds(_SEEDS.value)
    result = ablation.study(config, workdir, rows=rows, seeds=seeds, parallel=_PARALLEL.value)
  print(json.dumps({**result, "seconds": round(time.perf_counter() - start, 2)}))
  if result["failed"]:
    sys.exit(1)


if __name__ == "__main__":
  flags.run(main, default="dapo_ablation")
