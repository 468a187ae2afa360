"""On-policy distillation on the tiny transformer: a teacher's logprobs on the student's own answers, and no reward.

    python -m experiments.grpo --config.steps=0 --workdir=runs/warm                              # the student
    python -m experiments.grpo --config=configs/tiny_rl.py:grpo --config.model.path=runs/warm --config.warmup.steps=0 \
      --workdir=runs/grpo                                                                        # the teacher
    python -m experiments.grpo --config=configs/tiny_distillation_on_policy.py --config.model.path=runs/warm \
      --config.warmup.steps=0 --config.teacher.path=runs/grpo --workdir=runs/distilled

The advantage of a token is how much likelier the teacher finds it (`losses.advantages.distillation`), so REINFORCE's
gradient is that of the reverse KL per token. Correctness is only measured. One answer a prompt would do; 16 prompts of
8 answers a step are what configs/tiny_rl.py has.

Seed 0, 34 s of CPU time without the student's and the teacher's training; 240 held-out problems, 8 samples each:
avg@8 0.455 [0.41, 0.50] -> 0.919 [0.91, 0.93] after 20 steps, 0.931 [0.91, 0.95] after 60; greedy 0.425 -> 0.983;
6.8 -> 10.0 tokens. The teacher's avg@8 is 0.949, which GRPO took 60 steps for.
"""

from ml_collections import ConfigDict

from configs import tiny_dapo


def get_config(arg: str = "") -> ConfigDict:
  config = tiny_dapo.get_config(arg)
  config.dynamic_sampling.enabled = False  # a group whose answers are all right or all wrong has something to learn too
  config.overlong.penalty_buffer = 0
  config.advantage = "distillation"
  config.objective.update(surrogate="reinforce", aggregation="token_mean")
  return config
