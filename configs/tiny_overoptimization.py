"""Measures how best-of-n over-optimises tiny reward models.

    python -m experiments.overoptimization --workdir=runs/overoptimization

The gold reward is synthetic: correctness plus half of `rewards.shown_work`, which rewards an answer that shows every
step once. Reward models are trained on noisy pairs labelled by the gold reward. Fields of `model`, `warmup`, `prompts`
and `rewards` are explained in configs/tiny_sft.py, all others here.

3.5 minutes of CPU time, 4.4 minutes on two cores with other work at the same time; most programs were compiled before.
Seed 0, 60 held-out problems, 256 answers each, means of three reward models per size:

| pairs | order accuracy | n = 1 | highest, at n | n = 256 | drop from there, 95 % | α | β |
|---|---|---|---|---|---|---|---|
| 30 | 56 % | 0.47 | 0.51, 2 | 0.33 | 0.19 [0.09, 0.30] | 0.06 | 0.07 |
| 300 | 63 % | 0.47 | 0.59, 4 | 0.33 | 0.26 [0.16, 0.36] | 0.26 | 0.15 |
| 3000 | 74 % | 0.47 | 0.71, 8 | 0.30 | 0.41 [0.33, 0.49] | 0.51 | 0.28 |

All gold curves turn down, while the proxies rise up to n = 256. With more pairs the peak is higher and at a larger n.
But beyond the peak more pairs do not help: at n = 256 all gold rewards are below that of one sample. If the gold reward
itself chooses, it reaches 1.48.
"""

from ml_collections import ConfigDict

from configs import tiny_reward_model, tiny_sft


def get_config(arg: str = "") -> ConfigDict:
  del arg
  config = ConfigDict()
  config.seed = 0  # seed of all random draws of the run
  config.model = tiny_sft.model()
  config.mesh = dict(  # devices along each axis; one axis may be -1: all that are left
    data=1,  # copies of the model; each takes a part of the batch
    fsdp=1,  # shards of the parameters and the optimiser state; each takes a part of the batch
    tensor=1,  # shards of heads, MLP and vocabulary
  )
  config.warmup = tiny_reward_model.warmup()  # supervised training before the study; steps=0: none
  config.rewards = tiny_sft.rewards()  # the gold reward is the weighted sum of the functions
  config.rewards.functions.work = dict(
    function="posttrain_jax.rewards.shown_work:shown_work", weight=0.5, options={}, lowest=0.0
  )
  config.prompts = tiny_sft.task("train", 1000)  # prompts of the pairs
  config.held_out = tiny_sft.task("held_out", 10)  # prompts of best-of-n, same fields as `prompts`
  config.rollout = dict(
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
  config.pairs = dict(noise=0.25)  # probability that a pair has the wrong label, below 0.5
  config.proxy = dict(
    sizes=(30, 300, 3000),  # numbers of pairs that reward models are trained on
    repeats=3,  # reward models per size, on disjoint sets of pairs; curves are means over them
    updates=100,  # optimiser updates of each reward model
    batch_size=32,  # pairs of an update
    centering=0.01,  # weight of the penalty on the squared sum of a pair's rewards; 0: no penalty
    max_skipped_updates=5,  # the run ends after so many updates in a row with a NaN or infinite gradient
    optimizer=dict(  # AdamW; all counts are optimiser updates
      learning_rate=1e-3,  # peak
      schedule="cosine",  # after the warm-up: constant, linear or cosine
      warmup_updates=5,  # updates over which the rate rises linearly from 0
      decay_updates=100,  # update at which linear and cosine reach their end
      end_fraction=0.1,  # final rate of linear and cosine, as a share of the peak
      b1=0.9,  # decay of the first moment
      b2=0.98,  # decay of the second moment
      epsilon=1e-8,  # added to the root of the second moment
      weight_decay=0.01,  # on matrices only
      clip_norm=1.0,  # largest norm of the gradient; 0: no clipping
    ),
  )
  config.best_of_n = dict(
    samples=256,  # answers to each held-out prompt; the results for all n are estimated from them
    n=(1, 2, 4, 8, 16, 32, 64, 128, 256),  # ascending from 1, at most `samples`
    resamples=1000,  # resamples of the bootstrap over prompts
  )
  return config
