"""Compares the modes of dynamic sampling on the tiny task from one warm-up.

    python -m experiments.dapo --config.steps=0 --workdir=runs/warm_up
    python -m experiments.dapo --config=configs/dynamic_sampling_modes.py:MODE --workdir=runs/modes/MODE

MODE is drain, exact, carry, filter or batch (`dynamic_sampling.admission`); `rollouts/dynamic_sampling.py` explains
them, and configs/tiny_dapo.py explains all fields. Means over steps 16 to 30, seed 0, N = 16 groups of 8 answers, 128
slots, two updates per step. Staleness is in versions (updates):

| mode | generated / trained tokens | decode steps a step | trained - generated length | staleness mean, max | idle |
|---|---|---|---|---|---|
| drain | 2.76 | 68.5 | +0.65 | 0.14, 2 | 53 % |
| exact | 2.68 | 107.1 | +0.67 | 0, 0 | 70 % |
| carry | 2.82 | 51.2 | +0.62 | 0.73, 2 | 38 % |
| carry, `--config.dynamic_sampling.max_staleness=2` | 2.60 | 38.9 | +0.59 | 1.23, 4 | 24 % |
| batch | 4.07 | 75.2 | +0.91 | 0, 0 | 38 % |
| filter | 2.31 | 22.7 | +0.94 | 0, 0 | 51 % |

Informative shares were .35 to .44. `filter` trains on 7.0 groups per step, the others on 16. Lengths are in tokens and
about 11 on average; standard errors of the gap are .12 to .22. The gap comes from the task and not from a mode: `batch`
and `filter` have it, too, although they wait for all answers before they select. If correctness does not depend on
length, no mode has a gap; see `tests/rollouts/admission_test.py`. One seed and 15 steps do not show which mode learns
better.
"""

from ml_collections import ConfigDict

from configs import tiny_dapo


def get_config(arg: str = "") -> ConfigDict:
  config = tiny_dapo.get_config()
  config.steps = 30
  config.model.path = "runs/warm_up/warmup"  # the model that the first command makes
  config.warmup.steps = 0
  config.dynamic_sampling.admission = arg or "drain"
  config.eval.every = 0
  config.checkpoint.every = 30
  config.logging.rollouts_every = 30
  return config
