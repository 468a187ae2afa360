"""Rejection sampling with a tiny transformer: warm-up on the crowd's demonstrations, then the best of 16 answers.

    python -m experiments.collect --workdir=runs/collect
    python -m experiments.sft --config.demonstrations.path=runs/collect/demonstrations.jsonl --workdir=runs/sft_best

The verifier accepts right answers only; `data.rejection` keeps the first one of each prompt.
Seed 0, 103 CPU seconds with compilation: of 35,168 answers 42 % of those that end are right; 2,123 of 2,198 prompts get
a demonstration, and 1,858 pairs have a right answer over a wrong one.
"""

from ml_collections import ConfigDict

from configs import tiny_reward_model, tiny_sft


def get_config(arg: str = "") -> ConfigDict:
  del arg
  config = ConfigDict()
  config.source = (
    "rejection_sampling"  # or distillation (configs/tiny_distillation.py), edited (configs/tiny_edited.py)
  )
  config.seed = 0
  config.model = tiny_sft.model()
  config.mesh = dict(data=1, fsdp=1, tensor=1)
  config.warmup = tiny_reward_model.warmup()
  config.warmup.steps = 600
  config.warmup.optimizer.decay_updates = 600
  config.prompts = tiny_sft.task("train", 400)
  config.rollout = dict(
    prompts=256,  # answered and judged at a time
    samples=16,  # K
    slots=128,
    max_prompt_length=8,
    max_new_tokens=24,
    sampling=dict(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0),
  )
  config.rewards = tiny_sft.rewards()
  config.reward_model = ""  # PATH_OR_NAME of a reward model whose scores count in place of the verifier's
  config.selection = dict(
    keep=1,  # answers of a prompt
    threshold=0.5,  # least score; -inf: any, for a reward model
    dedupe=True,  # answers with the same text count once
  )
  return config
