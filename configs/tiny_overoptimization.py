"""Over-optimisation of reward models by best-of-n on a tiny transformer, against a synthetic gold reward.

    python -m experiments.overoptimization --workdir=runs/overoptimization

The gold reward is correctness plus half of `rewards.shown_work`, which wants every step shown once. 3.5 minutes of CPU
time, 4.4 minutes on two cores that had other work as well, most programs compiled before. Seed 0, 60 held-out problems,
256 answers each, means of three reward models a size:

| pairs | order accuracy | n = 1 | highest, at n | n = 256 | drop from there, 95 % | α | β |
|---|---|---|---|---|---|---|---|
| 30 | 56 % | 0.47 | 0.51, 2 | 0.33 | 0.19 [0.09, 0.30] | 0.06 | 0.07 |
| 300 | 63 % | 0.47 | 0.59, 4 | 0.33 | 0.26 [0.16, 0.36] | 0.26 | 0.15 |
| 3000 | 74 % | 0.47 | 0.71, 8 | 0.30 | 0.41 [0.33, 0.49] | 0.51 | 0.28 |

All gold curves turn down while the proxies rise throughout. More pairs move the peak up and out, and don't save what
lies beyond it: at n = 256 all are below one sample. Choosing by the gold reward itself reaches 1.48.
"""

from ml_collections import ConfigDict

from configs import tiny_reward_model, tiny_sft


def get_config(arg: str = "") -> ConfigDict:
  del arg
  config = ConfigDict()
  config.seed = 0
  config.model = tiny_sft.model()
  config.mesh = dict(data=1, fsdp=1, tensor=1)
  config.warmup = tiny_reward_model.warmup()
  config.rewards = tiny_sft.rewards()  # the gold reward: the weighted sum of the functions
  config.rewards.functions.work = dict(function="posttrain_jax.rewards.shown_work:shown_work", weight=0.5, options={})
  config.prompts = tiny_sft.task("train", 1000)  # of the pairs
  config.held_out = tiny_sft.task("held_out", 10)  # of best-of-n
  config.rollout = dict(
    slots=128,
    max_prompt_length=8,
    max_new_tokens=24,
    sampling=dict(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0),
  )
  config.pairs = dict(noise=0.25)  # probability that a pair has the wrong label
  config.proxy = dict(
    sizes=(30, 300, 3000),  # pairs that reward models are trained on
    repeats=3,  # reward models of a size, on disjoint sets of pairs; curves are means over them
    updates=100,
    batch_size=32,  # pairs
    centering=0.01,
    max_skipped_updates=5,
    optimizer=dict(
      learning_rate=1e-3,
      schedule="cosine",
      warmup_updates=5,
      decay_updates=100,
      end_fraction=0.1,
      b1=0.9,
      b2=0.98,
      epsilon=1e-8,
      weight_decay=0.01,
      clip_norm=1.0,
    ),
  )
  config.best_of_n = dict(
    samples=256,  # answers to each held-out prompt, of which every n is estimated
    n=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    resamples=1000,  # of the bootstrap over prompts
  )
  return config
