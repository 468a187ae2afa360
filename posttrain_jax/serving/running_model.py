"""Keeps a model and its engine in a thread, and takes requests at any time."""

import dataclasses
from collections.abc import Iterator

from posttrain_jax.serving.completion import AnswerPiece, CompletionRequest, Deliver


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineSizes:
  """Holds the sizes of a served model's engine.

  Attributes:
    slots: choices drawn at the same time.
    max_prompt_length: tokens of the longest prompt.
    max_new_tokens: cap on a choice in tokens.
    queue: most choices that wait for a slot.
    steps_per_dispatch: tokens that each slot draws between two looks at the queue.
  """

  slots: int
  max_prompt_length: int
  max_new_tokens: int
  queue: int
  steps_per_dispatch: int


class Running:
  """Stands for a request under way.

  Attributes:
    prompt_tokens: how many tokens the prompt has.
    seed: of the draws, the request's own or the one that was chosen for it.
  """

  prompt_tokens: int
  seed: int

  def cancel(self) -> None:
    """Ends the request; its slots become free, and nothing more is delivered. May be called twice, from any thread."""
    raise NotImplementedError


class RunningModel:
  """Holds a model and its engine, which run in a thread of their own. Its methods may be called from any thread."""

  def __init__(self, path: str, sizes: EngineSizes):
    """Loads a model and starts its thread.

    Args:
      path: PATH_OR_NAME.
      sizes: of its engine.

    Raises:
      InputError: if there is no such model, or if it is a reward model.
    """
    raise NotImplementedError

  def submit(self, request: CompletionRequest, deliver: Deliver) -> Running:
    """Queues a request.

    Args:
      request: what is asked.
      deliver: is given the pieces, those of each choice in order; or an exception, which is the last thing delivered.

    Raises:
      InputError: if the prompt is too long or not fit for the model, or a value is out of range.
      Refused: if the queue is full, or the model is going away.
    """
    raise NotImplementedError

  def pieces(self, request: CompletionRequest) -> Iterator[AnswerPiece]:
    """Yields a request's pieces; closing the iterator cancels it.

    Raises:
      InputError, Refused: as `submit` does.
    """
    raise NotImplementedError

  def close(self) -> None:
    """Ends the thread; requests under way get `Refused`."""
    raise NotImplementedError
