"""Attacks a model of the assistant world (docs/red_team.md).

python -m experiments.red_team --config=configs/red_team.py --config.model.path=MODEL --workdir=DIR
"""

from ml_collections import ConfigDict

from configs.recipes import assistant
from posttrain_jax.recipes import attacks


def get_config(arg: str = "") -> ConfigDict:
  if arg:
    raise ValueError(f"{arg!r}, expected nothing")
  config = attacks.attacks(assistant.world().to_dict())
  config.seed = 0  # of all draws and of the intervals
  config.round = 0  # another number draws other requests and searches another suffix
  config.model.path = ""  # PATH_OR_NAME of the model that is attacked
  config.attacker = dict(path="")  # PATH_OR_NAME of the model that writes learned attacks; empty without them
  # Of direct, disguised, prefilled, many_shot, build_up, suffix and learned.
  config.kinds = ("direct", "disguised", "prefilled", "many_shot", "build_up", "suffix")
  config.part = "held_out"  # of the requests: something of them is in no data of post-training; train: nothing is
  config.requests = 8  # of each kind of attack and each of the eight categories of harm
  config.shots = 8  # answered requests before one, in a many-shot attack
  config.suffix = dict(
    words=4,  # of the suffix
    rounds=24,  # exchanges of one word
    candidates=16,  # words that are tried in each
  )
  config.slots = 64  # answers drawn at the same time
  config.max_new_tokens = 48  # cap on an answer
  return config
