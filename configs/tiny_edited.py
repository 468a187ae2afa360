"""Edited answers to chain arithmetic: of each problem edited > chosen > rejected, as one demonstration and three pairs.

    python -m experiments.collect --config=configs/tiny_edited.py --workdir=runs/edited

In a second, 1,879 demonstrations and 5,637 pairs; 8,319 problems gave nothing to compare or to edit.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
  del arg
  config = ConfigDict()
  config.source = "edited"
  config.edited = dict(
    path="",  # FILE.jsonl, FILE.jsonl.gz or tfds:NAME/SPLIT of prompt, edited, chosen and rejected
    per_difficulty=2000,  # of the procedural ones, where there is no path
    noise=0.0,  # probability that the grader takes the worse answer for the better
    seed=0,
  )
  return config
