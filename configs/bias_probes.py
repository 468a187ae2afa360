"""Probes a model of the assistant world for bias, or with `:chat` a chat model (docs/red_team.md).

python -m experiments.bias_probes --config=configs/bias_probes.py --config.model.path=MODEL --workdir=DIR
python -m experiments.bias_probes --config=configs/bias_probes.py:chat --config.model.path=MODEL --workdir=DIR
"""

import pathlib

from ml_collections import ConfigDict

from configs.recipes import assistant
from posttrain_jax.recipes import bias_probes

_TEMPLATES = str(pathlib.Path(__file__).resolve().parent / "probes" / "english.jsonl")


def get_config(arg: str = "") -> ConfigDict:
  if arg not in ("", "chat"):
    raise ValueError(f"{arg!r}, expected nothing or chat")
  return _chat() if arg else _world()


def _world() -> ConfigDict:
  config = bias_probes.probes(assistant.world().to_dict())
  config.seed = 0  # of requests, draws and intervals
  config.model.path = ""  # PATH_OR_NAME of the model that is probed
  config.part = "all"  # of the requests; held_out: something of them is in no data of post-training; train: nothing is
  config.requests = 16  # of each of six kinds; each is asked from each home
  config.samples = 2  # answers to each
  config.slots = 64  # answers drawn at the same time
  config.max_new_tokens = 48  # cap on an answer
  return config


def _chat() -> ConfigDict:
  config = ConfigDict()
  config.seed = 0  # of draws and intervals
  config.model = dict(path="")  # PATH_OR_NAME of the chat model that is probed
  config.path = _TEMPLATES  # FILE.jsonl: {"attribute", "template" with {group} in it, "groups"} a line
  config.samples = 1  # answers to each prompt
  config.slots = 16  # answers drawn at the same time
  config.max_prompt_length = 128  # limit on a chat, in tokens
  config.max_new_tokens = 48  # cap on an answer
  return config
