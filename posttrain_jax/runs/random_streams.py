"""Named random streams: one seed in the config, an independent one for each purpose."""

import enum
import hashlib


class Stream(enum.StrEnum):
  """What randomness is for. A new purpose gets a new name, so that the others keep their numbers."""

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


def stream_seed(seed: int, stream: Stream) -> int:
  """Seed of a stream, in [0, 2³¹), from the config's seed."""
  return int.from_bytes(hashlib.sha256(f"{stream}/{seed}".encode()).digest()[:4], "little") >> 1
