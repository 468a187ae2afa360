"""Ways to admit prompts in dynamic sampling, compared on the tiny task from one warm-up.

    python -m experiments.dapo --config.steps=0 --workdir=runs/warm_up
    python -m experiments.dapo --config=configs/dynamic_sampling_modes.py:MODE --config.model.path=runs/warm_up/warmup

MODE is drain, exact, carry, filter or batch (`dynamic_sampling.admission`).
"""

from ml_collections import ConfigDict

from configs import tiny_dapo


def get_config(arg: str = "drain") -> ConfigDict:
  config = tiny_dapo.get_config()
  config.steps = 30
  config.dynamic_sampling.admission = arg
  config.eval.every = 0
  config.checkpoint.every = 30
  config.logging.rollouts_every = 30
  return config
