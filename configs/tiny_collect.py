r"""Collects the best of 16 answers of a tiny transformer (rejection sampling).

    python -m experiments.collect --workdir=runs/collect
    python -m experiments.sft --config.demonstrations.path=runs/collect/demonstrations.jsonl \
        --config.eval.own_share=0 --workdir=runs/sft_best

A warm-up on the crowd's demonstrations comes first. The verifier accepts right answers only; `data.rejection` keeps the
first right answer to each prompt. Fields of `model`, `warmup`, `prompts` and `rewards` are explained in
configs/tiny_sft.py, all others here.

Seed 0, 103 CPU seconds with compilation: 35,168 answers; 42 % of those that end are right. 2,123 of 2,198 prompts get a
demonstration, and 1,858 pairs have a right answer over a wrong one.
"""

from ml_collections import ConfigDict

from configs import tiny_reward_model, tiny_sft


def get_config(arg: str = "") -> ConfigDict:
  del arg
  config = ConfigDict()
  # rejection_sampling, distillation (configs/tiny_distillation.py) or edited (configs/tiny_edited.py)
  config.source = "rejection_sampling"
  config.seed = 0  # seed of all random draws of the run
  config.model = tiny_sft.model()
  config.mesh = dict(  # devices along each axis; one axis may be -1: all that are left
    data=1,  # copies of the model; each takes a part of the batch
    fsdp=1,  # shards of the parameters and the optimiser state; each takes a part of the batch
    tensor=1,  # shards of heads, MLP and vocabulary
  )
  config.warmup = tiny_reward_model.warmup()  # supervised training before sampling; steps=0: none
  config.warmup.steps = 600
  config.warmup.optimizer.decay_updates = 600
  config.prompts = tiny_sft.task("train", 400)
  config.rollout = dict(
    prompts=256,  # prompts of a round; results are saved after each round
    samples=16,  # K, answers per prompt
    slots=128,  # answers that are sampled at the same time
    max_prompt_length=8,  # limit on prompts, in tokens
    max_new_tokens=24,  # limit on answers, in tokens, the stop token included
    sampling=dict(  # the distribution that tokens are drawn from
      temperature=1.0,  # 0: always the most likely token
      top_k=0,  # draw from the k most likely tokens only; 0: off
      top_p=1.0,  # draw from the most likely tokens that together have probability p; 1: off
      min_p=0.0,  # draw only tokens at least min_p times as likely as the most likely one; 0: off
      stop_ids=(),  # ids that end an answer, besides those that the model names; such as (13, 198)
      stop_strings=(),  # texts that end an answer; such as ("\n\nQuestion:",)
    ),
  )
  config.rewards = tiny_sft.rewards()
  config.reward_model = ""  # PATH_OR_NAME of a reward model that gives the scores; empty: the verifier
  config.selection = dict(
    keep=1,  # most answers kept per prompt
    threshold=0.5,  # lowest score that is kept; -inf: any score, for a reward model
    dedupe=True,  # keep only one of several answers with the same text
  )
  return config
