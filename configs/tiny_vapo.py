"""Trains the tiny transformer with VAPO (2504.05118), a PPO without a KL.

    python -m experiments.ppo --config=configs/tiny_vapo.py --workdir=runs/vapo

VAPO is made for long answers. The task is that of configs/tiny_ppo.py, which explains all fields. First, the value
model is trained alone for some steps (the paper: 50), on returns with λ = 1. The λ of the advantages grows with an
answer's length. The upper clip is wider. The log-likelihood of correct answers is learned, too, with weight 0.1. Each
prompt has several answers. The paper's α of 0.05 suits thousands of tokens. Answers here have about 10, so α is 0.5:
then λ is about 0.8 and not 0.

Seed 0, from the same warm-up as configs/tiny_ppo.py: held-out avg@8 after 0, 20 and 40 steps 0.455 [0.41, 0.50],
0.911, 0.922 [0.90, 0.94]; greedy 0.43 -> 0.97; KL to the policy after the warm-up 1.8 nats per answer.
"""

from ml_collections import ConfigDict

from configs import tiny_ppo


def get_config(arg: str = "") -> ConfigDict:
  config = tiny_ppo.get_config(arg)
  config.rollout.update(groups=16, group_size=8)
  config.kl.coefficient = 0.0
  config.gae.update(lam_critic=1.0, length_adaptive=0.5)
  config.objective.update(clip_low=0.2, clip_high=0.28, nll_on_correct=0.1)
  config.value.pretraining_steps = 5
  return config
