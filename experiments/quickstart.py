"""Trains with DAPO and shows what that did to held-out accuracy; `bash launch/quickstart.sh` calls it.

    python -m experiments.quickstart --config=configs/NAME.py --config.FIELD=value --workdir=DIR

Without --config it takes configs/tiny_dapo.py. Run again on the same DIR to go on. The last line printed is one JSON
object: held-out avg@8 before and after reinforcement learning, the seconds that this command took, and the report.
Exit codes: 0 done, 2 bad config or input, 75 preempted after a checkpoint, 1 anything else.
"""

import json
import pathlib
import time

from experiments import flags

_START = time.perf_counter()


def main(config, workdir):
  import rich.console

  from posttrain_jax.pipelines import grpo
  from posttrain_jax.pipelines.grpo_settings import GRPOSettings
  from posttrain_jax.runs import summary
  from posttrain_jax.runs.journal import METRICS_FILE, read_metrics
  from posttrain_jax.runs.settings import parse

  parse(GRPOSettings, config)  # before its fields are read here
  directory = pathlib.Path(workdir)
  done = read_metrics(directory) if (directory / METRICS_FILE).exists() else []
  resumed_from = done[-1]["step"] if done else None
  if resumed_from is not None and resumed_from >= config.steps:
    print(f"{workdir} holds a finished run: nothing is trained now. Delete it, or name another --workdir.", flush=True)
  elif resumed_from is not None:
    print(f"{workdir} holds a run that got to step {resumed_from} of {config.steps}: going on.", flush=True)
  grpo.train(config, workdir)

  rich.console.Console().print(summary.table(workdir))
  result = summary.summarize(workdir)
  first = {name: result.pop(name) for name in ("avg_at_8_before", "avg_at_8_after")}
  seconds, report = round(time.perf_counter() - _START, 1), str(directory / "report.html")
  others = {"seed": config.seed, "steps": config.steps, "resumed_from": resumed_from}
  print(json.dumps({**first, "seconds": seconds, "report": report, **result, **others}))


if __name__ == "__main__":
  flags.run(main, default="tiny_dapo")
