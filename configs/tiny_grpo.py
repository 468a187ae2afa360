"""GRPO as DeepSeekMath has it (2402.03300), on the tiny transformer and the task of configs/tiny_dapo.py.

    python -m experiments.grpo --workdir=runs/grpo

The baseline of DAPO's ablation: every prompt is trained on, the clip is symmetric, each answer counts the same whatever
its length, length is not punished, and a KL term holds the policy near the warm-up's.
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
