"""Stands for a request under way, and turns what is drawn for it into pieces."""

import secrets
from collections.abc import Callable

from posttrain_jax.data.tokenizer import Tokenizer
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.own_sampling import OwnSampling
from posttrain_jax.sampling.results import NewTokens
from posttrain_jax.serving.completion import AnswerPiece, CompletionRequest, Deliver, Ending
from posttrain_jax.serving.text_stream import TextStream
from posttrain_jax.types import FinishReason, Prompt

_ENDINGS = {FinishReason.EOS: Ending.STOP, FinishReason.LENGTH: Ending.LENGTH}


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
    prompt: its tokens and its number.
    own: how its choices are drawn, with the seed that was chosen if the request has none.
    deliver: is given the pieces.
    texts: of the choices that go on; only the engine's thread looks at it.
  """

  def __init__(
    self,
    prompt: Prompt,
    own: OwnSampling,
    choices: int,
    tokenizer: Tokenizer,
    deliver: Deliver,
    cancel: Callable[["Running"], None],
  ):
    """Notes what was asked, and what to call to cancel it."""
    self.prompt, self.own, self.deliver, self._cancel = prompt, own, deliver, cancel
    self.texts = {choice: TextStream(tokenizer, own.config.stop_strings) for choice in range(choices)}

  @property
  def prompt_tokens(self) -> int:
    """Counts the tokens of the prompt."""
    return len(self.prompt.tokens)

  def cancel(self) -> None:
    """Ends the request; its slots become free, and soon nothing more is delivered.

    It may be called twice, after the end, and from any thread.
    """
    self._cancel(self)

  def piece(self, new: NewTokens, version: str) -> AnswerPiece:
    """Makes the piece of what a dispatch drew, and forgets the choice if it has ended."""
    if new.finish_reason is None:
      text = self.texts[new.sample].add(new.tokens)
    else:
      text = self.texts.pop(new.sample).end(new.tokens, stopped=new.finish_reason == FinishReason.EOS)
    top = ()
    if self.own.top_logprobs:
      rows = zip(new.top.tokens[:, : self.own.top_logprobs], new.top.logprobs)
      top = tuple(tuple(zip(tokens.tolist(), logprobs.tolist())) for tokens, logprobs in rows)
    return AnswerPiece(
      choice=new.sample,
      text=text,
      tokens=tuple(new.tokens.tolist()),
      logprobs=tuple(new.sampler_logprobs.tolist()),
      top_logprobs=top,
      finish_reason=None if new.finish_reason is None else _ENDINGS[new.finish_reason],
      version=version,
    )
