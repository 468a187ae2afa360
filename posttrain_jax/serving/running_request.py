"""Stands for a request under way, and turns what is drawn for it into pieces."""

import secrets
from collections.abc import Callable

from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.own_sampling import OwnSampling
from posttrain_jax.serving.completion import AnswerPiece, CompletionRequest, Deliver, Ending
from posttrain_jax.serving.engine_reports import DrawnPart, EngineRequest
from posttrain_jax.serving.text_stream import TextStream


def sampling_of(request: CompletionRequest, cap: int) -> OwnSampling:
  """Returns how the engine draws a request's choices.

  Args:
    request: the request. Without a seed it gets a new one.
    cap: on a choice in tokens, if the request has none.

  Raises:
    InputError: if a value is out of range.
  """
  return OwnSampling(
    SamplingConfig(request.temperature, request.top_k, request.top_p, request.min_p, (), tuple(request.stop)),
    max_new_tokens=cap if request.max_tokens is None else request.max_tokens,
    seed=secrets.randbits(31) if request.seed is None else request.seed,
    top_logprobs=request.top_logprobs,
  )


class Running:
  """Stands for a request under way.

  Attributes:
    number: of the request.
    prompt_tokens: how many tokens the prompt has.
    deliver: is given the pieces.
    left: how many choices go on.
  """

  def __init__(self, asked: EngineRequest, tokenizer: Tokenizer, deliver: Deliver, cancel: Callable[["Running"], None]):
    """Notes what the engine is asked, and what to call to cancel it."""
    self.number, self.prompt_tokens, self.left = asked.number, len(asked.tokens), asked.choices
    self.deliver, self._cancel = deliver, cancel
    self._texts = [TextStream(tokenizer, asked.own.config.stop_strings) for _ in range(asked.choices)]

  def cancel(self) -> None:
    """Ends the request; its slots become free, and soon nothing more is delivered.

    It may be called twice, after the end, and from any thread.
    """
    self._cancel(self)

  def piece(self, part: DrawnPart, version: str) -> AnswerPiece:
    """Makes the piece of what a dispatch drew."""
    text = self._texts[part.choice]
    return AnswerPiece(
      choice=part.choice,
      text=text.add(part.tokens) if part.ending is None else text.end(part.tokens, stopped=part.ending == Ending.STOP),
      tokens=tuple(part.tokens),
      logprobs=tuple(part.logprobs),
      top_logprobs=part.top,
      finish_reason=part.ending,
      version=version,
    )
