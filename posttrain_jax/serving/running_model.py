"""Takes requests for a served model, and hands out what its engine draws, piece by piece.

The engine runs in a thread of this process or in another one. What is asked is checked here, before the engine hears
of it.
"""

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from absl import logging

from posttrain_jax.assembly.model import find_tokenizer, read_config
from posttrain_jax.assembly.prompt_format import own_format
from posttrain_jax.assembly.rollout_engine import describe_ends
from posttrain_jax.serving.asked_prompt import prompt_tokens
from posttrain_jax.serving.completion import AnswerPiece, CompletionRequest, Deliver, Refused
from posttrain_jax.serving.engine_reports import (
  DrawnPart,
  DrawnParts,
  EngineEnded,
  EngineReport,
  EngineRequest,
  Loaded,
  NotDrawn,
  Report,
)
from posttrain_jax.serving.engine_thread import EngineThread
from posttrain_jax.serving.running_request import Running, sampling_of
from posttrain_jax.serving.serving_engine import EngineSizes, own_samplings
from posttrain_jax.types import InputError, NotFinite


class ServedEngine(Protocol):
  """Names what a running model asks of its engine."""

  def submit(self, request: EngineRequest) -> None:
    """Queues a request."""

  def cancel(self, number: int) -> None:
    """Ends a request."""

  def close(self) -> None:
    """Ends the engine."""


# Loads a model and starts its engine; see `EngineThread`.
StartEngine = Callable[[str, EngineSizes, float | None, Report], ServedEngine]


class RunningModel:
  """Holds a model whose engine draws at any time.

  Its methods may be called from any thread.

  Attributes:
    tokenizer: the model's.
    sizes: of the engine.
    version: names the parameters that draw.
    failure: what ended the engine; None while it runs.
  """

  def __init__(
    self,
    path: str,
    sizes: EngineSizes,
    *,
    asked: Mapping[str, Any] | None = None,
    reload_seconds: float | None = None,
    start: StartEngine = EngineThread,
  ):
    """Loads a model and starts its engine.

    Args:
      path: PATH_OR_NAME.
      sizes: of its engine.
      asked: fields of the model's `PromptFormat` to change; None for none.
      reload_seconds: how often a run's folder is looked at for a newer checkpoint; None: never.
      start: starts the engine, in a thread of this process unless it is `EngineProcess.start`.

    Raises:
      InputError: if there is no such model, if it is a reward model, or if the sizes do not fit it.
    """
    config, tokenizer = read_config(path), find_tokenizer(path)
    if config.scalar_head:
      raise InputError(f"{path}: is a reward model, expected a language model")
    if tokenizer is None:
      raise InputError(f"{path}: found no tokenizer.json, expected a model with its tokeniser")
    self.tokenizer, self.sizes, self.version, self.failure = tokenizer, sizes, "", None
    self._vocab_size, self._samplings = config.vocab_size, own_samplings(tokenizer)
    self._format = dataclasses.replace(own_format(path, tokenizer), **(asked or {}))
    if not tokenizer.stop_ids:
      logging.warning("%s: %s", path, describe_ends(tokenizer))
    self._lock = threading.Lock()
    self._closing, self._count, self._numbered = False, 0, 0
    self._running: dict[int, Running] = {}
    self._engine = start(path, sizes, reload_seconds, self._take)

  @property
  def choices(self) -> tuple[int, int]:
    """Counts the choices that have a slot, and those that wait for one."""
    running = min(self._count, self.sizes.slots)
    return running, self._count - running

  def submit(self, request: CompletionRequest, deliver: Deliver) -> Running:
    """Queues a request.

    Args:
      request: what is asked.
      deliver: is given the pieces, those of each choice in order; or an exception, which is the last thing delivered.
        The others' pieces wait for it.

    Raises:
      InputError: if the prompt is too long or not fit for the model, or a value is out of range.
      Refused: if the queue is full, or the model is going away.
    """
    tokens = prompt_tokens(request.prompt, self.tokenizer, self._format)
    own = sampling_of(request, self.sizes.max_new_tokens)
    own.check(self._samplings)
    if not 0 < len(tokens) <= self.sizes.max_prompt_length:
      raise InputError(f"prompt: {len(tokens)} tokens, expected 1 to {self.sizes.max_prompt_length}")
    if own.max_new_tokens > self.sizes.max_new_tokens:
      raise InputError(f"max_tokens: {own.max_new_tokens}, expected 1 to {self.sizes.max_new_tokens}")
    if not 0 <= min(tokens) <= max(tokens) < self._vocab_size:
      raise InputError(f"prompt: expected token ids from 0 to {self._vocab_size - 1}")
    most = self.sizes.slots + self.sizes.queue
    if not 1 <= request.n <= most:
      raise InputError(f"n: {request.n}, expected 1 to {most}")
    with self._lock:
      if self.failure is not None:
        raise Refused(f"the model has failed: {self.failure}", busy=False)
      if self._closing:
        raise Refused("the server is shutting down", busy=False)
      if self._count + request.n > most:
        raise Refused(f"{self._count} choices are under way or wait, which is the limit of {most}", busy=True)
      asked = EngineRequest(self._numbered, tokens, request.n, own)
      running = self._running[asked.number] = Running(asked, self.tokenizer, deliver, self._cancel)
      self._numbered += 1
      self._count += request.n
    self._engine.submit(asked)
    return running

  def pieces(self, request: CompletionRequest) -> Iterator[AnswerPiece]:
    """Yields a request's pieces; closing the iterator cancels it.

    Raises:
      InputError, Refused: as `submit` does.
    """
    pieces: queue.SimpleQueue[AnswerPiece | Exception] = queue.SimpleQueue()
    running, left = self.submit(request, pieces.put), request.n
    try:
      while left:
        piece = pieces.get()
        if isinstance(piece, Exception):
          raise piece
        left -= piece.finish_reason is not None
        yield piece
    finally:
      running.cancel()

  def close(self) -> None:
    """Ends the engine; requests under way get `Refused`."""
    with self._lock:
      self._closing = True
    self._engine.close()

  def _cancel(self, running: Running) -> None:
    if self._forget(running.number) is not None:
      self._engine.cancel(running.number)

  def _forget(self, number: int) -> Running | None:
    """Lets go of a request; returns it if it was under way."""
    with self._lock:
      running = self._running.pop(number, None)
      if running is not None:
        self._count -= running.left
    return running

  def _take(self, report: EngineReport) -> None:
    """Takes what the engine reports, in its thread or in that which hears of it."""
    match report:
      case Loaded():
        self.version = report.version
      case DrawnParts():
        for part in report.parts:
          self._hand_out(part)
      case NotDrawn():
        for number in report.numbers:
          self._end(number, NotFinite(report.message))
      case EngineEnded():
        with self._lock:
          self.failure, self._closing = report.failure, True
        refused = Refused("the server is shutting down", busy=False)
        for number in list(self._running):
          self._end(number, refused if report.failure is None else RuntimeError(report.failure))

  def _hand_out(self, part: DrawnPart) -> None:
    running = self._running.get(part.number)
    if running is None:
      return  # it was cancelled meanwhile
    piece = running.piece(part, self.version)
    if piece.finish_reason is not None:
      with self._lock:
        running.left -= 1
        if part.number in self._running:
          self._count -= 1
          if not running.left:
            del self._running[part.number]
    running.deliver(piece)

  def _end(self, number: int, error: Exception) -> None:
    running = self._forget(number)
    if running is not None:
      running.deliver(error)
