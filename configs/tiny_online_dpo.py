"""Online DPO on a tiny transformer: each round samples answers, pairs the best with the worst, and trains on them.

python -m experiments.dpo --config=configs/tiny_online_dpo.py --workdir=runs/online_dpo

Seed 0, 80 s on two shared cores, warm-up included; held-out avg@8 after 0, 10, 20, 30, 40 rounds: 0.459 [0.42, 0.50],
0.626, 0.777, 0.852, 0.880 [0.86, 0.90]; greedy 0.446 -> 0.979; KL to the policy as it came 1.06 nats.
"""

from ml_collections import ConfigDict

from configs import tiny_dpo, tiny_sft


def get_config(arg: str = "") -> ConfigDict:
  base = tiny_dpo.get_config(arg)
  shared = ("seed", "model", "mesh", "warmup", "objective", "rewards", "eval")
  config = ConfigDict({name: base[name] for name in shared})
  config.steps = 40  # rounds
  config.online = dict(
    refresh_every=1,  # rounds between two copies of the policy to the reference; 0: the policy as it came, for good
    reward_model="",  # PATH_OR_NAME of a reward model that judges in place of the verifier
  )
  config.prompts = tiny_sft.task("train", 1000)
  config.rollout = dict(
    groups=32,  # prompts of a round
    group_size=8,  # answers of each; the best and the worst make the pair
    slots=128,
    max_prompt_length=8,
    max_new_tokens=24,
    steps_per_dispatch=16,  # tokens per slot between two looks at what has finished
    prefill_width=8,
    sampling=dict(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0),
    train_on_truncated=False,  # must be True to train on samples of top_k, top_p or min_p
  )
  config.learner = dict(updates_per_step=2, micro_batches=1, max_skipped_updates=5)
  config.optimizer = base.optimizer
  config.eval.every = 10
  config.checkpoint = dict(every=20, keep=1, digest=True)
  config.logging = dict(
    tensorboard=True,
    report=True,
    console={"loss": "loss", "accuracy/mean": "accuracy", "eval/heldout/avg@8": "held-out avg@8"},
  )
  return config
