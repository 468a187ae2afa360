"""Trains a tiny transformer with online DPO.

python -m experiments.dpo --config=configs/tiny_online_dpo.py --workdir=runs/online_dpo

Each round samples answers, pairs the best with the worst answer to a prompt, and trains on the pairs. Fields without a
comment here are explained in configs/tiny_dpo.py.

Seed 0, 80 s on two shared cores, warm-up included; held-out avg@8 after 0, 10, 20, 30, 40 rounds: 0.459 [0.42, 0.50],
0.626, 0.777, 0.852, 0.880 [0.86, 0.90]; greedy 0.446 -> 0.979; KL to the policy before round 1: 1.06 nats.
"""

from ml_collections import ConfigDict, config_dict

from configs import tiny_dpo, tiny_sft


def get_config(arg: str = "") -> ConfigDict:
  base = tiny_dpo.get_config(arg)
  shared = ("seed", "model", "mesh", "warmup", "objective", "rewards", "eval")
  config = ConfigDict({name: base[name] for name in shared})
  config.steps = 40  # rounds
  config.online = dict(
    refresh_every=1,  # the policy becomes the new reference after so many rounds; 0: never
    reward_model="",  # PATH_OR_NAME of a reward model that gives the rewards; empty: the verifier
  )
  config.prompts = tiny_sft.task("train", 1000)  # see configs/tiny_sft.py
  config.rollout = dict(
    groups=32,  # prompts of a round
    group_size=8,  # answers per prompt; the best and the worst of them make the pair
    slots=128,  # answers that are sampled at the same time
    cache_tokens=config_dict.placeholder(int),  # tokens that the caches hold; None: from the device's free memory
    max_prompt_length=8,  # limit on prompts, in tokens
    max_new_tokens=24,  # limit on answers, in tokens, the stop token included
    steps_per_dispatch=16,  # tokens that each slot draws before the engine looks which answers have ended
    prefill_chunk=32,  # prompts are prefilled in chunks of so many tokens, a multiple of 32; the last one is padded
    prefill_width=8,  # chunks in one prefill, of one prompt or of several
    prefills_per_dispatch=4,  # running answers wait for at most so many prefills, then they draw again
    sampling=dict(  # the distribution that tokens are drawn from
      temperature=1.0,  # 0: always the most likely token
      top_k=0,  # draw from the k most likely tokens only; 0: off
      top_p=1.0,  # draw from the most likely tokens that together have probability p; 1: off
      min_p=0.0,  # draw only tokens at least min_p times as likely as the most likely one; 0: off
      stop_ids=(),  # ids that end an answer, besides those that the model names; such as (13, 198)
      stop_strings=(),  # texts that end an answer; such as ("\n\nQuestion:",)
    ),
    train_on_truncated=False,  # must be True to train on samples of top_k, top_p or min_p
  )
  config.learner = dict(
    updates_per_step=2,  # optimiser updates of a round
    tokens_per_micro_batch=0,  # tokens that a device computes at a time, for its part of a batch; 0: chosen
    max_skipped_updates=5,  # the run ends after so many updates in a row with a NaN or infinite gradient
  )
  config.optimizer = base.optimizer
  config.eval.every = 10
  config.checkpoint = dict(
    every=20,  # steps between two checkpoints
    keep=1,  # newest checkpoints that stay; the best one stays as well
    digest=True,  # write `params_sha256` to metrics.jsonl at each checkpoint
  )
  config.logging = dict(
    tensorboard=True,  # write TensorBoard events
    report=True,  # write report.html at the end
    # Metrics shown in the terminal, with their labels.
    console={"loss": "loss", "accuracy/mean": "accuracy", "eval/heldout/avg@8": "held-out avg@8"},
  )
  return config
