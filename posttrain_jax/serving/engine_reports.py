"""Defines what a served model's engine is asked, and what it reports.

All of it can be sent from one process to another.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

from posttrain_jax.sampling.own_sampling import OwnSampling
from posttrain_jax.serving.completion import Ending


@dataclasses.dataclass(frozen=True)
class EngineRequest:
  """Describes a request for some choices of one prompt.

  Attributes:
    number: of the request; each has another one.
    tokens: the prompt.
    choices: how many.
    own: how they are drawn.
  """

  number: int
  tokens: tuple[int, ...]
  choices: int
  own: OwnSampling


class DrawnPart(NamedTuple):
  """Holds what one dispatch drew for a choice.

  Attributes:
    number: of the request.
    choice: its number in the request, from 0.
    tokens: drawn ids, an end token included.
    logprobs: of each token, of the untruncated distribution at the temperature.
    top: of each token the most likely ones, as (token id, logprob), if they were asked for.
    ending: why the choice ended; None while it goes on.
  """

  number: int
  choice: int
  tokens: list[int]
  logprobs: list[float]
  top: tuple[tuple[tuple[int, float], ...], ...]
  ending: Ending | None


@dataclasses.dataclass(frozen=True)
class Loaded:
  """Holds the name of the parameters that draw from now on."""

  version: str


@dataclasses.dataclass(frozen=True)
class DrawnParts:
  """Holds what one dispatch drew."""

  parts: Sequence[DrawnPart]


@dataclasses.dataclass(frozen=True)
class NotDrawn:
  """Describes an end of all requests that had begun, because logits were not finite."""

  numbers: Sequence[int]
  message: str


@dataclasses.dataclass(frozen=True)
class EngineEnded:
  """Describes the engine's end; it is the last report.

  Attributes:
    failure: what went wrong, in one line; None if the engine was closed.
  """

  failure: str | None


EngineReport = Loaded | DrawnParts | NotDrawn | EngineEnded
Report = Callable[[EngineReport], None]
