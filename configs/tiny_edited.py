"""Collects edited answers to chain arithmetic (edited > chosen > rejected).

    python -m experiments.collect --config=configs/tiny_edited.py --workdir=runs/edited

Each problem gives one demonstration and three pairs. One second makes 1,879 demonstrations and 5,637 pairs; 8,319
problems gave nothing to compare or to edit.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
  del arg
  config = ConfigDict()
  config.source = "edited"  # see configs/tiny_collect.py
  config.edited = dict(
    path="",  # FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT of prompt, edited, chosen and rejected
    # The next three fields have an effect without a path only.
    per_difficulty=2000,  # problems of each number of steps
    noise=0.0,  # probability that the grader takes the worse answer for the better one
    seed=0,  # decides which problems and answers are drawn
  )
  return config
