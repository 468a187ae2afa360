"""Keeps a served model's engine in a thread, and takes requests at any time.

The thread runs one dispatch after the other. Between two of them it takes the requests that came, ends those that were
cancelled, and reports what was drawn. When new parameters are there, it first finishes what runs: each answer is drawn
by one version. Requests that come meanwhile wait.
"""

import threading
import time

from absl import logging

from posttrain_jax.assembly.hand_over import sampler_params
from posttrain_jax.sampling.results import NewTokens
from posttrain_jax.serving.completion import Ending, one_line
from posttrain_jax.serving.engine_reports import (
  DrawnPart,
  DrawnParts,
  EngineEnded,
  EngineRequest,
  Loaded,
  NotDrawn,
  Report,
)
from posttrain_jax.serving.model_versions import LoadedVersion, load_version, newest_step
from posttrain_jax.serving.serving_engine import EngineSizes, serving_engine, warm_up
from posttrain_jax.types import FinishReason, NotFinite, Prompt

_ENDINGS = {FinishReason.EOS: Ending.STOP, FinishReason.LENGTH: Ending.LENGTH}


class EngineThread:
  """Holds a model and its engine.

  Its methods may be called from any thread.
  """

  def __init__(self, path: str, sizes: EngineSizes, reload_seconds: float | None, report: Report):
    """Loads a model, compiles its programs and starts the thread.

    Args:
      path: PATH_OR_NAME.
      sizes: of its engine.
      reload_seconds: how often a run's folder is looked at for a newer checkpoint; None: never.
      report: is told what is loaded, before this returns, and what is drawn, in the thread.

    Raises:
      InputError: if there is no such model, or the sizes do not fit it.
    """
    loaded = load_version(path)
    self._engine = serving_engine(loaded.policy, sizes)
    warm_up(self._engine)
    self._path, self._newest, self._report = path, loaded.newest, report
    self._changed = threading.Condition()
    self._came: dict[int, EngineRequest] = {}
    self._cancelled: list[int] = []
    self._next: LoadedVersion | None = None
    self._closing = False
    self._running: dict[int, _Running] = {}  # by the request's number; the thread's own
    report(Loaded(loaded.version))
    self._thread = threading.Thread(target=self._run, name=f"engine of {path}", daemon=True)
    self._thread.start()
    if reload_seconds is not None:
      threading.Thread(target=self._watch, args=[reload_seconds], name=f"versions of {path}", daemon=True).start()

  def submit(self, request: EngineRequest) -> None:
    """Queues a request, which must be fit for the engine."""
    with self._changed:
      self._came[request.number] = request
      self._changed.notify()

  def cancel(self, number: int) -> None:
    """Ends a request; one that has ended is left alone."""
    with self._changed:
      if self._came.pop(number, None) is None:
        self._cancelled.append(number)
        self._changed.notify()

  def close(self) -> None:
    """Ends the thread, and what it draws."""
    with self._changed:
      self._closing = True
      self._changed.notify()
    self._thread.join()

  def _run(self) -> None:
    failure = None
    try:
      while self._take():
        if self._next is not None and not self._engine.busy:
          self._change_version()
        elif self._engine.busy:
          self._step()
    except Exception as error:  # whatever it is, nobody may wait for an answer that never comes
      logging.exception("the engine of %s has failed", self._path)
      failure = one_line(error)
    self._closing = True  # for the thread that looks for checkpoints
    self._report(EngineEnded(failure))

  def _take(self) -> bool:
    """Waits until there is something to do, and takes what came; says whether to go on."""
    with self._changed:
      while not (self._came or self._cancelled or self._closing or self._engine.busy or self._next is not None):
        self._changed.wait()
      cancelled, self._cancelled = self._cancelled, []
      came = {}
      if self._next is None:
        came, self._came = self._came, {}
    for request in came.values():
      running = self._running[request.number] = _Running(request)
      self._engine.submit(running.prompt, request.choices, request.own)
    for number in cancelled:
      if (running := self._running.pop(number, None)) is not None:
        self._engine.cancel(running.prompt)
    return not self._closing

  def _step(self) -> None:
    try:
      self._engine.step()
    except NotFinite as error:
      failed, self._running = list(self._running), {}
      self._report(NotDrawn(failed, str(error)))
      return
    self._report(DrawnParts([self._part(new) for new in self._engine.new]))

  def _part(self, new: NewTokens) -> DrawnPart:
    number = new.prompt.index
    running = self._running[number]
    ending = None
    if new.finish_reason is not None:
      ending = _ENDINGS[new.finish_reason]
      running.left -= 1
      if not running.left:
        del self._running[number]
    top = _alternatives(new, running.top_logprobs) if running.top_logprobs else ()
    return DrawnPart(number, new.sample, new.tokens.tolist(), new.sampler_logprobs.tolist(), top, ending)

  def _change_version(self) -> None:
    loaded, self._next = self._next, None
    self._engine.unload()  # first, so that the device never holds both
    self._engine.load(sampler_params(loaded.policy, self._engine.mesh), self._engine.version + 1)
    self._newest = loaded.newest
    logging.info("%s: %s is loaded", self._path, loaded.version)
    self._report(Loaded(loaded.version))

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


class _Running:
  """Holds what the engine was given for a request, and how many choices go on."""

  def __init__(self, request: EngineRequest):
    self.prompt, self.left = Prompt(request.number, request.tokens, {}), request.choices
    self.top_logprobs = request.own.top_logprobs


def _alternatives(new: NewTokens, count: int) -> tuple[tuple[tuple[int, float], ...], ...]:
  rows = zip(new.top.tokens[:, :count], new.top.logprobs)
  return tuple(tuple(zip(tokens.tolist(), logprobs.tolist())) for tokens, logprobs in rows)
