"""Trains the tiny transformer with GRPO as in DeepSeekMath (2402.03300).

    python -m experiments.grpo --workdir=runs/grpo

The task is that of configs/tiny_dapo.py, which explains all fields. This is GRPO without DAPO's techniques: all groups
are trained on, the clip is symmetric, each answer has the same weight whatever its length, and long answers get no
penalty. A KL term keeps the policy close to the policy after the warm-up.
"""

from ml_collections import ConfigDict

from configs import tiny_dapo


def get_config(arg: str = "") -> ConfigDict:
  config = tiny_dapo.get_config(arg)
  config.dynamic_sampling.enabled = False
  config.overlong.penalty_buffer = 0
  config.objective.clip_high = 0.2
  config.objective.aggregation = "sequence_mean"
  config.objective.kl_coefficient = 0.04
  return config
