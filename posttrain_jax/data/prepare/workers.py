"""Applies a function to many inputs in worker processes, and gives the results in order.

The number of results that wait is bounded, so memory is, too. The workers end when this process ends, however it ends.
"""

import collections
import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

_In, _Out = TypeVar("_In"), TypeVar("_Out")
_WAITING = 2  # inputs of a worker that wait or are worked on
_work: Callable[[Any], Any] | None = None  # of a worker process


def in_order(work: Callable[[_In], _Out], inputs: Iterable[_In], *, workers: int) -> Iterator[_Out]:
  """Yields `work(each)` for each input.

  Args:
    work: a function that can be pickled. It is sent to each worker once.
    inputs: taken from when a worker is about to be free.
    workers: number of processes; 1: this process does the work.
  """
  if workers == 1:
    yield from map(work, inputs)
    return
  with concurrent.futures.ProcessPoolExecutor(
    workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin, initargs=(work,)
  ) as pool:
    waiting: collections.deque[concurrent.futures.Future] = collections.deque()
    try:
      for each in inputs:
        waiting.append(pool.submit(_do, each))
        if len(waiting) >= workers * _WAITING:
          yield waiting.popleft().result()
      while waiting:
        yield waiting.popleft().result()
    finally:
      for future in waiting:
        future.cancel()


def _begin(work: Callable[[Any], Any]) -> None:
  global _work
  _work = work
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
  os._exit(1)


def _do(each: Any) -> Any:
  return _work(each)
