"""VAPO (2504.05118) on the tiny transformer and the task of configs/tiny_ppo.py: PPO without a KL, for long answers.

    python -m experiments.ppo --config=configs/tiny_vapo.py --workdir=runs/vapo

The value model is trained alone for some steps (the paper: 50), on returns with λ 1; the advantages' λ grows with an
answer's length; the upper clip is wider; 0.1 times the likelihood of correct answers is learned besides; and a prompt
has several answers. The paper's α of 0.05 is made for thousands of tokens: here, at about 10, α is 0.5, so that λ is
about 0.8 and not 0.

Seed 0, from the same warm-up as configs/tiny_ppo.py's: held-out avg@8 after 0, 20 and 40 steps 0.455 [0.41, 0.50],
0.911, 0.922 [0.90, 0.94]; greedy 0.43 -> 0.97; KL to the warm-up 1.8 nats an answer.
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
