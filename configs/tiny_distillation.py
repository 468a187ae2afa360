"""Distillation from a tiny reasoner: of each problem its bare answer and, where it is right, the reasoner's work.

    python -m experiments.collect --config=configs/tiny_distillation.py --workdir=runs/distillation

The reasoner is what the warm-up makes; `--config.model.path` and `--config.warmup.steps=0` name another one. With
`--config.prompts.chat` a pretrained one is asked under a system prompt that wants it to reflect and to verify.
Seed 0, 99 CPU seconds with compilation: 2,198 plain samples and, for 1,958 problems, the reasoner's.
"""

from ml_collections import ConfigDict

from configs import tiny_collect


def get_config(arg: str = "") -> ConfigDict:
  config = tiny_collect.get_config(arg)
  config.source = "distillation"
  config.rollout.samples = 8
  config.distillation = dict(
    system="",  # asks for reflection; empty: data.distillation.REFLECTION_PROMPT for a chat, nothing for text
    original="answer",  # column of the original answer
    original_template=" Answer: {original}",  # what is put around it
  )
  return config
