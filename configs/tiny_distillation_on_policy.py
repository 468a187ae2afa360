"""Distils a teacher into the tiny transformer on the student's own answers.

    python -m experiments.grpo --config.steps=0 --workdir=runs/warm                              # the student
    python -m experiments.grpo --config=configs/tiny_rl.py:grpo --config.model.path=runs/warm --config.warmup.steps=0 \
      --workdir=runs/grpo                                                                        # the teacher
    python -m experiments.grpo --config=configs/tiny_distillation_on_policy.py --config.model.path=runs/warm \
      --config.warmup.steps=0 --config.teacher.path=runs/grpo --workdir=runs/distilled

The advantage of a token is the teacher's logprob minus the student's (`losses.advantages.distillation`), so REINFORCE's
gradient is the gradient of the reverse KL per token. There is no reward; correctness is only measured. One answer per
prompt would be enough; 16 prompts with 8 answers per step are the same as in configs/tiny_rl.py. All fields are
explained in configs/tiny_dapo.py.

Seed 0, 34 s of CPU time without the student's and the teacher's training; 240 held-out problems, 8 samples each:
avg@8 0.455 [0.41, 0.50] -> 0.919 [0.91, 0.93] after 20 steps, 0.931 [0.91, 0.95] after 60; greedy 0.425 -> 0.983;
6.8 -> 10.0 tokens. The teacher's avg@8 is 0.949, after 60 steps of GRPO.
"""

from ml_collections import ConfigDict

from configs import tiny_dapo


def get_config(arg: str = "") -> ConfigDict:
  config = tiny_dapo.get_config(arg)
  config.dynamic_sampling.enabled = False  # groups that are all right or all wrong have something to learn, too
  config.overlong.penalty_buffer = 0
  config.advantage = "distillation"
  config.objective.update(surrogate="reinforce", aggregation="token_mean")
  return config
