"""Defines how requests ask an engine for a sampling of their own.

An engine that trains draws all answers alike: its settings are constants of its program. `PerRequest` makes an engine
whose program reads them from arrays instead, one number a slot.
"""

import dataclasses
import hashlib
import math
from collections.abc import Sequence

import jax
import numpy as np

from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.types import InputError

_LOWEST_TEMPERATURE = 1e-3  # other than 0; logits divided by much less would overflow


@dataclasses.dataclass(frozen=True)
class PerRequest:
  """Describes an engine whose requests each have their own sampling.

  It stands in for the engine's `SamplingConfig`.

  Attributes:
    stop_ids: drawing any of these ends an answer of any request.
    top_logprobs: most alternatives that a request may ask for with each token; 0 for an engine without them.
  """

  stop_ids: tuple[int, ...]
  top_logprobs: int


@dataclasses.dataclass(frozen=True)
class OwnSampling:
  """Holds what one request asks for.

  Attributes:
    config: how its tokens are drawn, and its stop strings; stop ids are the engine's.
    max_new_tokens: cap on its answers, the stop id included; the engine's cap holds besides.
    seed: of its draws. They depend on it, on the prompt's tokens and on the sample's number, and not on the prompt's
      index or attempt.
    top_logprobs: how many of the most likely tokens are reported with each of its tokens.
  """

  config: SamplingConfig
  max_new_tokens: int
  seed: int
  top_logprobs: int

  def check(self, engine: PerRequest) -> None:
    """Refuses what an engine cannot do.

    Raises:
      InputError: if a value is out of range.
    """
    if 0 < self.config.temperature < _LOWEST_TEMPERATURE or not math.isfinite(self.config.temperature):
      raise InputError(
        f"sampling.temperature: {self.config.temperature}, expected 0 or a number of at least {_LOWEST_TEMPERATURE}"
      )
    if self.config.stop_ids:
      raise InputError(f"sampling.stop_ids: {self.config.stop_ids}, expected none besides the engine's")
    if self.max_new_tokens < 1:
      raise InputError(f"max_new_tokens: {self.max_new_tokens}, expected at least 1")
    if not 0 <= self.top_logprobs <= engine.top_logprobs:
      raise InputError(f"top_logprobs: {self.top_logprobs}, expected 0 to {engine.top_logprobs}")

  def key(self, tokens: Sequence[int], sample: int) -> np.ndarray:
    """Makes the key of a sample's draws, uint32 [2].

    Args:
      tokens: the prompt.
      sample: its number among the answers to the request.
    """
    text = np.array(tokens, "<i4").tobytes()
    digest = hashlib.sha256(f"{self.seed} {sample} ".encode() + text).digest()
    return np.frombuffer(digest[:8], "<u4").astype(np.uint32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RowSampling:
  """Holds the sampling of the S slots.

  Attributes:
    temperature: float32 [S], 0 for the most likely token.
    top_k: int32 [S], 0 keeps all.
    top_p: float32 [S], 1 keeps all.
    floor: float32 [S], log of min_p, -inf keeps all.
    top: bool [S], whether the most likely tokens are reported.
  """

  temperature: jax.Array
  top_k: jax.Array
  top_p: jax.Array
  floor: jax.Array
  top: jax.Array


def row_sampling(requests: Sequence[OwnSampling], width: int) -> RowSampling:
  """Makes the arrays of some requests, and of rows without one up to a width."""
  configs = [own.config for own in requests]

  def column(values, fill, dtype):
    return np.array([*values, *[fill] * (width - len(requests))], dtype)

  return RowSampling(
    temperature=column([config.temperature for config in configs], 1, np.float32),
    top_k=column([min(config.top_k, 2**31 - 1) for config in configs], 0, np.int32),
    top_p=column([config.top_p for config in configs], 1, np.float32),
    floor=column([math.log(config.min_p) if config.min_p else -math.inf for config in configs], -math.inf, np.float32),
    top=column([own.top_logprobs > 0 for own in requests], False, bool),
  )
