"""Draws metrics of several runs into one picture.

    python -m experiments.plot --run=NAME=DIR --run=NAME2=DIR2 --metric=loss --output=curves.png \
      [--x=updates|step|METRIC] [--sqrt_x]

One panel for each --metric, a key of metrics.jsonl; one line for each --run. Bands are intervals, where a run has
METRIC_low and METRIC_high. The output is .png, .svg or .pdf. Exit codes: 0 done, 2 bad input, 1 anything else.
"""

import sys

from absl import flags as absl_flags

from experiments import flags

_RUN = absl_flags.DEFINE_multi_string("run", None, "NAME=DIR, a label and a run's workdir; may be repeated")
_METRIC = absl_flags.DEFINE_multi_string("metric", None, "a key of metrics.jsonl; may be repeated")
_OUTPUT = absl_flags.DEFINE_string("output", None, "FILE.png, .svg or .pdf")
_X = absl_flags.DEFINE_string("x", "updates", "what runs along the x axis: updates, step, or another metric")
_SQRT_X = absl_flags.DEFINE_bool("sqrt_x", False, "the x axis is the square root, as is usual for a KL")


def main():
  from posttrain_jax.reports.run_curves import write_curves
  from posttrain_jax.types import InputError

  runs: dict[str, str] = {}
  for entry in _RUN.value:
    name, _, directory = entry.partition("=")
    if not name or not directory:
      raise InputError(f"--run={entry}: expected NAME=DIR")
    if name in runs:
      raise InputError(f"--run={entry}: there is a run {name} already, expected names that differ")
    runs[name] = directory
  for notice in write_curves(runs, _METRIC.value, _OUTPUT.value, x=_X.value, sqrt_x=_SQRT_X.value):
    print(f"note: {notice}", file=sys.stderr)
  print(_OUTPUT.value)


if __name__ == "__main__":
  flags.run_plain(main, required=["run", "metric", "output"])
