"""Measures time and memory of experiments.prepare on raw text that it writes itself.

    python -m experiments.measure_prepare --workdir=DIR [--megabytes=100] [--workers=2] [--seed=0]

DIR gets the raw text and what is made of it. The last line printed is one JSON object. Exit codes: 0 done, 2 bad input,
1 anything else.
"""

import json

from absl import flags as absl_flags

from experiments import flags

_WORKDIR = absl_flags.DEFINE_string("workdir", None, "folder for the raw text and the shards, empty or not there")
_MEGABYTES = absl_flags.DEFINE_integer("megabytes", 100, "raw text, in 10⁶ bytes", lower_bound=1)
_WORKERS = absl_flags.DEFINE_integer("workers", 2, "processes", lower_bound=1)
_SEED = absl_flags.DEFINE_integer("seed", 0, "of the text")


def main():
  from posttrain_jax.local_path import local_path
  from posttrain_jax.performance.preparation import measure_preparation

  folder = local_path(_WORKDIR.value, "--workdir")
  found = measure_preparation(folder, _MEGABYTES.value, workers=_WORKERS.value, seed=_SEED.value)
  print(json.dumps({"megabytes": _MEGABYTES.value, "workers": _WORKERS.value, **found}))


if __name__ == "__main__":
  flags.run_plain(main, required=["workdir"])
