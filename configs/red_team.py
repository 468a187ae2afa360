"""Attacks a model of the assistant world, or with `:chat` a chat model (docs/red_team.md).

python -m experiments.red_team --config=configs/red_team.py --config.model.path=MODEL --workdir=DIR
python -m experiments.red_team --config=configs/red_team.py:chat --config.prompts.xstest.path=FILE
  --config.model.path=MODEL --workdir=DIR
"""

from ml_collections import ConfigDict

from configs.recipes import assistant
from posttrain_jax.recipes import attacks


def get_config(arg: str = "") -> ConfigDict:
  if arg not in ("", "chat"):
    raise ValueError(f"{arg!r}, expected nothing or chat")
  return _chat() if arg else _world()


def _world() -> ConfigDict:
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
  config.judge = dict(
    path="",  # PATH_OR_NAME of a model that judges beside the rules; empty: none
    longest=400,  # characters of a request and of an answer that it reads
  )
  config.slots = 64  # answers drawn at the same time
  config.max_new_tokens = 48  # cap on an answer
  return config


def _chat() -> ConfigDict:
  config = ConfigDict()
  config.seed = 0  # of all draws and of the intervals
  config.model = dict(path="")  # PATH_OR_NAME of the chat model that is attacked
  # Files of prompts that should be refused; an empty path leaves one out.
  config.prompts = dict(
    xstest=dict(
      path="",  # XSTest (2308.01263) as JSONL
      only=dict(label="unsafe"),  # of its prompts
      category="type",  # column that names the kind of harm
      limit=24,  # prompts that are measured
    ),
    harmless=dict(path="", only={}, category="", limit=24),  # hh-rlhf's; of each chat the first turn
  )
  config.longest = 300  # characters of a prompt
  # Of direct, disguised, prefilled, many_shot, build_up and suffix.
  config.kinds = ("direct", "disguised", "prefilled", "many_shot", "build_up", "suffix")
  config.shots = 8  # prompts before one, in a many-shot attack
  config.searched = 4  # prompts of each file that are not measured: for the search of a suffix, and as shots
  config.suffix = dict(words=4, rounds=16, candidates=8)
  config.budget = 100_000  # tokens that the search of a suffix may read
  config.judge = dict(
    path="",  # PATH_OR_NAME of a chat model that judges beside the rule; empty: none
    longest=800,  # characters of a prompt and of an answer that it reads
  )
  config.slots = 16  # answers drawn at the same time
  config.max_prompt_length = 640  # limit on all that the model reads, in tokens
  config.max_new_tokens = 64  # cap on an answer
  return config
