"""Derives an independent seed for each purpose from the config's one seed."""

import enum
import hashlib


class Stream(enum.StrEnum):
  """Names the purposes of randomness.

  A new purpose gets a new name, so that the others keep their random numbers.
  """

  PARAMS = "params"
  PROMPTS = "prompts"
  ROLLOUT = "rollout"
  EVALUATION = "evaluation"
  DEMONSTRATIONS = "demonstrations"
  DROPOUT = "dropout"
  PREFERENCES = "preferences"
  HEAD = "head"
  VALUE = "value"
  MINIBATCHES = "minibatches"
  PRETRAINING = "pretraining"
  JUDGEMENTS = "judgements"
  TARGET = "target"


def stream_seed(seed: int, stream: Stream) -> int:
  """Returns the seed of a stream, in [0, 2³¹), for the config's seed."""
  return int.from_bytes(hashlib.sha256(f"{stream}/{seed}".encode()).digest()[:4], "little") >> 1
