"""Keeps a model and its engine in a thread, and takes requests at any time.

The thread runs one dispatch after the other. Between two of them it takes the requests that came, ends those that were
cancelled, and hands out what was drawn. When new parameters are there, it first finishes what runs: each answer is
drawn by one version. Requests that come meanwhile wait.
"""

import collections
import dataclasses
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from absl import logging

from posttrain_jax.assembly.hand_over import sampler_params
from posttrain_jax.assembly.prompt_format import own_format
from posttrain_jax.assembly.rollout_engine import describe_ends
from posttrain_jax.sampling.results import NewTokens
from posttrain_jax.serving.asked_prompt import prompt_tokens
from posttrain_jax.serving.completion import AnswerPiece, CompletionRequest, Deliver, Refused
from posttrain_jax.serving.model_versions import LoadedVersion, load_version, newest_step
from posttrain_jax.serving.running_request import Running, sampling_of
from posttrain_jax.serving.serving_engine import EngineSizes, serving_engine, warm_up
from posttrain_jax.types import InputError, NotFinite, Prompt


class RunningModel:
  """Holds a model and its engine, which run in a thread of their own.

  Its methods may be called from any thread.

  Attributes:
    tokenizer: the model's.
    sizes: of the engine.
    version: names the parameters that are loaded.
    failure: what ended the thread; None while it runs.
  """

  def __init__(
    self,
    path: str,
    sizes: EngineSizes,
    *,
    asked: Mapping[str, Any] | None = None,
    reload_seconds: float | None = None,
  ):
    """Loads a model, compiles its programs and starts its thread.

    Args:
      path: PATH_OR_NAME.
      sizes: of its engine.
      asked: fields of the model's `PromptFormat` to change; None for none.
      reload_seconds: how often a run's folder is looked at for a newer checkpoint; None: never.

    Raises:
      InputError: if there is no such model, if it is a reward model, or if the sizes do not fit it.
    """
    loaded = load_version(path)
    if loaded.policy.model.scalar_head:
      raise InputError(f"{path}: is a reward model, expected a language model")
    self.tokenizer, self.sizes, self.version, self.failure = loaded.policy.tokenizer, sizes, loaded.version, None
    self._path, self._format, self._newest = path, own_format(path, self.tokenizer), loaded.newest
    self._format = dataclasses.replace(self._format, **(asked or {}))
    if not self.tokenizer.stop_ids:
      logging.warning("%s: %s", path, describe_ends(self.tokenizer))
    self._engine = serving_engine(loaded.policy, sizes)
    warm_up(self._engine)
    self._changed = threading.Condition()
    self._came: collections.deque[Running] = collections.deque()
    self._cancelled: list[Running] = []
    self._next: LoadedVersion | None = None
    self._closing, self._count, self._numbered = False, 0, 0
    self._running: dict[int, Running] = {}  # the engine's, by the prompt's number; the thread's own
    self._thread = threading.Thread(target=self._run, name=f"engine of {path}", daemon=True)
    self._thread.start()
    if reload_seconds is not None:
      threading.Thread(target=self._watch, args=[reload_seconds], name=f"versions of {path}", daemon=True).start()

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
        The engine waits for it.

    Raises:
      InputError: if the prompt is too long or not fit for the model, or a value is out of range.
      Refused: if the queue is full, or the model is going away.
    """
    tokens = prompt_tokens(request.prompt, self.tokenizer, self._format)
    own = sampling_of(request, self.sizes.max_new_tokens)
    own.check(self._engine.sampling)
    if not 0 < len(tokens) <= self.sizes.max_prompt_length:
      raise InputError(f"prompt: {len(tokens)} tokens, expected 1 to {self.sizes.max_prompt_length}")
    if own.max_new_tokens > self.sizes.max_new_tokens:
      raise InputError(f"max_tokens: {own.max_new_tokens}, expected 1 to {self.sizes.max_new_tokens}")
    vocabulary = self._engine.model.vocab_size
    if not 0 <= min(tokens) <= max(tokens) < vocabulary:
      raise InputError(f"prompt: expected token ids from 0 to {vocabulary - 1}")
    most = self.sizes.slots + self.sizes.queue
    if not 1 <= request.n <= most:
      raise InputError(f"n: {request.n}, expected 1 to {most}")
    with self._changed:
      prompt = Prompt(self._numbered, tokens, {})
      if self.failure is not None:
        raise Refused(f"the model has failed: {self.failure}", busy=False)
      if self._closing:
        raise Refused("the server is shutting down", busy=False)
      if self._count + request.n > most:
        raise Refused(f"{self._count} choices are under way or wait, which is the limit of {most}", busy=True)
      running = Running(prompt, own, request.n, self.tokenizer, deliver, self._cancel)
      self._numbered += 1
      self._count += request.n
      self._came.append(running)
      self._changed.notify()
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

  def _cancel(self, running: Running) -> None:
    with self._changed:
      self._cancelled.append(running)
      self._changed.notify()

  def close(self) -> None:
    """Ends the thread; requests under way get `Refused`."""
    with self._changed:
      self._closing = True
      self._changed.notify()
    self._thread.join()

  def _run(self) -> None:
    try:
      while self._take():
        if self._next is not None and not self._engine.busy:
          self._change_version()
        elif self._engine.busy:
          self._step()
      ended: Exception = Refused("the server is shutting down", busy=False)
    except Exception as error:  # whatever it is, nobody may wait for an answer that never comes
      logging.exception("the engine of %s has failed", self._path)
      ended = error
    with self._changed:
      if not isinstance(ended, Refused):
        self.failure = ended
      came, self._closing = [*self._came], True
    for running in [*self._running.values(), *came]:
      running.deliver(ended)

  def _take(self) -> bool:
    """Waits until there is something to do, and takes what came; says whether to go on."""
    with self._changed:
      while not (self._came or self._cancelled or self._closing or self._engine.busy or self._next is not None):
        self._changed.wait()
      cancelled, self._cancelled = self._cancelled, []
      came = []
      if self._next is None:
        came, self._came = list(self._came), collections.deque()
      for running in cancelled:
        if running in self._came:
          self._came.remove(running)
          self._count -= len(running.texts)
    for running in came:
      self._running[running.prompt.index] = running
      self._engine.submit(running.prompt, len(running.texts), running.own)
    for running in cancelled:
      if self._running.pop(running.prompt.index, None) is not None:
        self._engine.cancel(running.prompt)
        self._ended(len(running.texts))
    return not self._closing

  def _step(self) -> None:
    try:
      self._engine.step()
    except NotFinite as error:
      failed, self._running = self._running, {}
      for running in failed.values():
        self._ended(len(running.texts))
        running.deliver(error)
      return
    for new in self._engine.new:
      self._hand_out(self._running[new.prompt.index], new)

  def _hand_out(self, running: Running, new: NewTokens) -> None:
    piece = running.piece(new, self.version)
    if piece.finish_reason is not None:
      self._ended(1)
      if not running.texts:
        del self._running[new.prompt.index]
    running.deliver(piece)

  def _ended(self, choices: int) -> None:
    with self._changed:
      self._count -= choices

  def _change_version(self) -> None:
    loaded, self._next = self._next, None
    self._engine.unload()  # first, so that the device never holds both
    self._engine.load(sampler_params(loaded.policy, self._engine.mesh), self._engine.version + 1)
    self.version, self._newest = loaded.version, loaded.newest
    logging.info("%s: %s is loaded", self._path, self.version)

  def _watch(self, seconds: float) -> None:
    """Looks for a newer checkpoint, and loads it to the host while the engine goes on."""
    while not self._closing:
      time.sleep(seconds)
      if self._next is not None or newest_step(self._path) in (None, self._newest):
        continue
      try:
        loaded = load_version(self._path)
      except Exception:  # it may be deleted as it is read; the parameters that are loaded stay
        logging.exception("%s: the newest checkpoint cannot be loaded", self._path)
        continue
      with self._changed:
        self._next = loaded
        self._changed.notify()
