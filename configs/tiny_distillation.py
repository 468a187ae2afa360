"""Collects demonstrations from a tiny reasoner for distillation.

    python -m experiments.collect --config=configs/tiny_distillation.py --workdir=runs/distillation

Each problem gives its bare answer and, if the reasoner is right, the reasoner's work. The reasoner is the model after
the warm-up; `--config.model.path` and `--config.warmup.steps=0` name another one. With `--config.prompts.chat`, a
pretrained reasoner gets a system prompt that asks it to reflect and to verify. Fields without a comment here are
explained in configs/tiny_collect.py.

Seed 0, 99 CPU seconds with compilation: 2,198 plain samples and, for 1,958 problems, the reasoner's.
"""

from ml_collections import ConfigDict

from configs import tiny_collect


def get_config(arg: str = "") -> ConfigDict:
  config = tiny_collect.get_config(arg)
  config.source = "distillation"
  config.rollout.samples = 8
  config.distillation = dict(
    system="",  # system prompt of the reasoner; empty: data.distillation.REFLECTION_PROMPT for a chat, none for text
    original="answer",  # column of the original answer
    original_template=" Answer: {original}",  # text around it; "{original}" stands for the original answer
  )
  return config
