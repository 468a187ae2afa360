"""Trains with GRPO without DAPO's techniques and without a KL term.

    python -m experiments.dapo --config=configs/tiny_naive_grpo.py --workdir=runs/naive

Problems are long and short, and the limit on answers is tight. Every row of configs/dapo_ablation.py changes this
config; that file describes the task. All other fields are explained in configs/tiny_dapo.py.
"""

from ml_collections import ConfigDict

from configs import tiny_dapo

DIFFICULTIES = (1, 2, 3, 4, 5, 16)
CAP = 28  # limit on answers, in tokens, the stop token included
CLIP = 0.08  # stands for the paper's 0.2: in so small a model, 16 updates per rollout move ratios less


def get_config(arg: str = "") -> ConfigDict:
  del arg
  config = tiny_dapo.get_config()
  config.steps = 30
  for prompts in (config.prompts, config.eval.sets.heldout.prompts, config.warmup.demonstrations):
    prompts.difficulties = DIFFICULTIES  # numbers of steps of the problems
  config.warmup.demonstrations.update(per_difficulty=1500, max_completion=CAP, row_length=96)
  config.warmup.demonstrations.crowd = dict(
    # Fields of `data.demonstrations.Crowd`. Shares are for difficulty 1, 2, ...; the last one also for larger ones.
    careful=(0.7, 0.5, 0.4, 0.35, 0.3, 0.65),  # share of careful demonstrations
    rambling=(0.2, 0.2, 0.2, 0.2, 0.25, 0.3),  # share of rambling demonstrations; the rest is hasty
    slip=0.3,  # probability that a step's result is wrong
    doubt=0.5,  # probability that a rambling demonstration starts again after finishing
  )
  config.warmup.update(steps=600, batch_size=24)
  config.warmup.optimizer.decay_updates = 600
  config.warmup.eval.every = 0
  config.warmup.checkpoint.every = 300
  config.rollout.update(groups=64, max_prompt_length=18, max_new_tokens=CAP)
  config.dynamic_sampling.update(enabled=False, max_prompts=320)
  config.overlong.penalty_buffer = 0
  config.objective.update(clip_low=CLIP, clip_high=CLIP, aggregation="sequence_mean")
  config.learner.updates_per_step = 16
  config.optimizer.learning_rate = 4e-4

  config.eval.update(every=3, max_prompt_length=18, max_new_tokens=CAP, slots=256)
  heldout = config.eval.sets.heldout
  heldout.prompts.per_difficulty = 35
  heldout.per_problem = True  # also write the scores of each problem to metrics.jsonl
  config.eval.sets.sft_only = heldout.copy_and_resolve_references()
  config.eval.sets.sft_only.update(samples=4, greedy=False)
  config.eval.sets.sft_only.prompts.update(split="sft_only", per_difficulty=16)
  config.checkpoint.update(every=20, keep=1)
  for logging in (config.logging, config.warmup.logging):
    logging.tensorboard = False
  config.logging.update(report=False, rollouts_every=20)
  return config
