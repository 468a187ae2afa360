"""Defines what is asked of a served model, and the pieces of its answers.

The names are those of OpenAI's API: a request asks for n choices, and each choice ends for a finish reason.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompletionRequest:
  """Holds one request.

  Attributes:
    prompt: text or token ids to go on from as they are; or messages, which the model is asked in its own format.
    temperature: divides the logits; 0 takes the most likely token.
    top_p: keeps the smallest set of most likely tokens whose probabilities add up to at least p; 1 keeps all.
    top_k: keeps the k most likely tokens; 0 keeps all.
    min_p: keeps tokens at least min_p times as likely as the most likely one; 0 keeps all.
    max_tokens: cap on a choice in tokens; None is the server's.
    stop: texts that end a choice, and are not part of it.
    seed: of the draws. The same seed, prompt and sampling give the same choices. None: a new one.
    n: choices.
    top_logprobs: how many of the most likely tokens each token is reported with.
  """

  prompt: str | tuple[int, ...] | Sequence[Mapping[str, Any]]
  temperature: float
  top_p: float
  top_k: int
  min_p: float
  max_tokens: int | None
  stop: tuple[str, ...]
  seed: int | None
  n: int
  top_logprobs: int


class Ending(enum.StrEnum):
  """Names why a choice ended; the first two are OpenAI's finish reasons."""

  STOP = "stop"  # at an end token or a stop string
  LENGTH = "length"  # at its cap


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnswerPiece:
  """Holds what is new of one choice.

  Attributes:
    choice: its number, from 0.
    text: what follows the text of the pieces before. It may lag behind the tokens: half a character and what may
      become a stop string are held back.
    tokens: the new token ids, an end token included.
    logprobs: of each token, of the untruncated distribution at the temperature.
    top_logprobs: of each token the most likely ones, as (token id, logprob), if they were asked for.
    finish_reason: why it ended; None while it goes on. The piece with one is the choice's last.
    version: names the parameters that drew the tokens; all of a choice have the same.
  """

  choice: int
  text: str
  tokens: tuple[int, ...]
  logprobs: tuple[float, ...]
  top_logprobs: tuple[tuple[tuple[int, float], ...], ...]
  finish_reason: Ending | None
  version: str


class Refused(Exception):
  """Says that a running model does not take a request now, or does not finish it.

  Attributes:
    busy: whether the same request may be taken later; else the model is going away.
  """

  def __init__(self, reason: str, *, busy: bool):
    super().__init__(reason)
    self.busy = busy


def one_line(error: Exception) -> str:
  """Returns what went wrong, in one line that is not empty."""
  return " ".join(str(error).split()) or type(error).__name__


# Called for each piece as it is drawn, in another thread; or once with what went wrong.
Deliver = Callable[[AnswerPiece | Exception], None]
