"""Runs served models' engines in a process of their own.

Of a process' Python threads only one runs at a time. HTTP, JSON and text would keep an engine waiting between its
dispatches, the more the faster its model is. One process has the engines of all models, because a TPU belongs to one
process. The process that serves never touches the device.
"""

import concurrent.futures
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from absl import logging

from posttrain_jax.serving.completion import one_line
from posttrain_jax.serving.engine_reports import EngineEnded, EngineReport, EngineRequest, Loaded, Report
from posttrain_jax.serving.engine_thread import EngineThread
from posttrain_jax.serving.garbage import collect_rarely
from posttrain_jax.serving.serving_engine import EngineSizes
from posttrain_jax.types import InputError

_END_SECONDS = 2  # for the process to end, after which it is killed


class EngineProcess:
  """Stands for the process, which ends with the context."""

  def __init__(self, prepare: Callable[[], None]):
    """Prepares the process, which starts with its first engine.

    Args:
      prepare: what the process calls first, such as to set how it logs; a function of a module.
    """
    self._prepare, self._process, self._connection = prepare, None, None
    self._sending, self._telling, self._end = threading.Lock(), threading.Lock(), None
    self._engines: list[RemoteEngine] = []

  def __enter__(self) -> "EngineProcess":
    return self

  def __exit__(self, *_) -> None:
    if self._process is None:
      return
    self.send(None)
    self._process.join(_END_SECONDS)
    if self._process.is_alive():
      self._process.kill()
      self._process.join()

  def _begin(self) -> None:
    context = multiprocessing.get_context("spawn")  # a fork would have JAX's locks and none of its threads
    self._connection, other = context.Pipe()
    self._process = context.Process(target=_run_engines, args=(other, self._prepare), name="engines", daemon=True)
    self._process.start()
    other.close()  # else the end of the process would not be noticed
    threading.Thread(target=self._receive, name="reports of engines", daemon=True).start()

  def start(self, path: str, sizes: EngineSizes, reload_seconds: float | None, report: Report) -> "RemoteEngine":
    """Loads a model in the process; arguments and exceptions are those of `EngineThread`.

    Raises:
      RuntimeError: if the process fails.
    """
    if self._process is None:
      self._begin()
    engine = RemoteEngine(self, len(self._engines), report)
    self._engines.append(engine)
    self._tell_end()
    engine.call("start", path, sizes, reload_seconds)
    engine.wait_until_started()
    return engine

  def send(self, message: Any) -> None:
    """Sends a message to the process; nothing happens if it has ended."""
    try:
      with self._sending:
        self._connection.send_bytes(pickle.dumps(message))
    except OSError:
      pass  # `_receive` tells it

  def _receive(self) -> None:
    """Hands reports to the engines until the process has ended."""
    while True:
      try:
        number, found = self._connection.recv()
      except (EOFError, OSError):
        break
      self._engines[number].take(found)
    self._process.join()
    self._end = EngineEnded(f"the engines' process has ended with exit code {self._process.exitcode}")
    self._tell_end()

  def _tell_end(self) -> None:
    """Tells engines that the process has ended, if it has."""
    with self._telling:
      for engine in self._engines if self._end else ():
        engine.take(self._end)


class RemoteEngine:
  """Stands for an `EngineThread` in the other process."""

  def __init__(self, process: EngineProcess, number: int, report: Report):
    """Takes the process, the engine's number there, and what is told."""
    self._process, self._number, self._report = process, number, report
    self._started, self._ended = concurrent.futures.Future(), concurrent.futures.Future()

  def call(self, method: str, *arguments: Any) -> None:
    """Calls a method of the other process."""
    self._process.send((method, self._number, arguments))

  def wait_until_started(self) -> None:
    """Waits until the model is loaded, or raises why it cannot be."""
    self._started.result()

  def take(self, found: EngineReport | InputError) -> None:
    """Takes what the other process sent."""
    if self._ended.done():
      return
    if not self._started.done():
      if isinstance(found, Loaded):
        self._report(found)
        self._started.set_result(None)
      else:
        self._ended.set_result(None)
        self._started.set_exception(found if isinstance(found, InputError) else RuntimeError(found.failure))
      return
    try:
      self._report(found)
    except Exception:  # the reports of other requests and models must go on
      logging.exception("a report of an engine was not taken")
    if isinstance(found, EngineEnded):
      self._ended.set_result(None)

  def submit(self, request: EngineRequest) -> None:
    """Queues a request, as `EngineThread` does."""
    self.call("submit", request)

  def cancel(self, number: int) -> None:
    """Ends a request, as `EngineThread` does."""
    self.call("cancel", number)

  def close(self) -> None:
    """Ends the engine, and what it draws."""
    self.call("close")
    self._ended.result()


def _run_engines(connection: Connection, prepare: Callable[[], None]) -> None:
  """Calls in the new process what it is sent, until the sender ends."""
  for name in (signal.SIGINT, signal.SIGTERM):  # meant for both processes; the sender ends both, when answers are done
    signal.signal(name, signal.SIG_IGN)
  prepare()
  engines: dict[int, EngineThread] = {}
  sending = threading.Lock()

  def send(number: int, found: EngineReport | InputError) -> None:
    with sending:
      connection.send_bytes(pickle.dumps((number, found)))

  while (message := _received(connection)) is not None:
    method, number, arguments = message
    if method != "start":
      getattr(engines[number], method)(*arguments)
      continue
    try:
      engines[number] = EngineThread(*arguments, lambda found, number=number: send(number, found))
      collect_rarely()
    except InputError as error:
      send(number, error)
    except Exception as error:
      logging.exception("%s cannot be loaded", arguments[0])
      send(number, EngineEnded(one_line(error)))
  os._exit(0)  # at once, whatever an engine is doing


def _received(connection: Connection) -> Any:
  try:
    return connection.recv()
  except (EOFError, OSError):
    return None
