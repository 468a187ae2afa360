"""Runs reward functions in child processes that can be killed.

A verifier may hang, crash or raise on some answer. The batch is then tried again one answer at a time, so that only the
answers at fault get NaN, which means no reward and is not 0. After a time-out or a crash the child is killed and
replaced. After an exception it is kept. The children end when this process ends, however it ends. The exception is a
fork of this process without exec: while it lives, the children live too. Everything here works from any thread.
"""

import collections
import concurrent.futures
import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from posttrain_jax.rewards import worker_main
from posttrain_jax.rewards.worker_process import WorkerProcess
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class RewardFunction:
  """Describes a reward function and its weight.

  Attributes:
    path: "module:function" of a function f(texts, rows, **options). An answer's reward must not depend on the other
      answers of the batch.
    weight: factor of its rewards in the sum; with 0 they are only logged.
    options: keyword arguments, JSON values.
    name: name of the component in logs; by default the function's name.
  """

  path: str
  weight: float = 1.0
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  name: str = ""

  def __post_init__(self):
    if not self.name:
      object.__setattr__(self, "name", self.path.rpartition(":")[2])
    if not math.isfinite(self.weight):
      raise InputError(f"reward function {self.path!r}: weight is {self.weight}; expected a finite number")


class RewardWorkers:
  """Holds worker processes that have all reward functions loaded.

  It is a context manager. `close` ends the workers.

  Attributes:
    functions: the reward functions.
  """

  def __init__(
    self,
    functions: Sequence[RewardFunction],
    *,
    workers: int = 1,
    batch_seconds: float = 60.0,
    answer_seconds: float = 10.0,
    start_seconds: float = 60.0,
  ):
    """Starts the workers and loads the functions.

    Args:
      functions: the reward functions; `score` names them by position.
      workers: number of processes that share a batch. 0 runs the functions in this process, without time limits: for
        tests, and for functions that are fast and trusted.
      batch_seconds: time limit of a call with several answers.
      answer_seconds: time limit of a call with one answer. A batch in which k answers hang takes about
        batch_seconds + k * answer_seconds.
      start_seconds: time limit for a worker to start and import the functions.

    Raises:
      InputError: if there is no function, two have the same name, one cannot be loaded with its options, or a number is
        out of range.
    """
    counts = collections.Counter(function.name for function in functions)
    if not functions or max(counts.values()) > 1:
      raise InputError(f"reward functions are named {sorted(counts.elements())}; expected at least one, names unique")
    if workers < 0 or min(batch_seconds, answer_seconds, start_seconds) <= 0:
      raise InputError(
        f"reward workers: {workers} workers, time limits {batch_seconds}, {answer_seconds} and {start_seconds} s;"
        " expected at least 0 workers and limits above 0"
      )
    self.functions = tuple(functions)
    self._batch_seconds, self._answer_seconds = batch_seconds, answer_seconds
    calls = [(function.path, function.options) for function in functions]
    self._workers: list[WorkerProcess | _InProcess] = [WorkerProcess(calls, start_seconds) for _ in range(workers)]
    if not workers:
      self._workers = [_InProcess(calls)]
    self._threads = concurrent.futures.ThreadPoolExecutor(len(self._workers), thread_name_prefix="reward")
    try:
      list(self._threads.map(lambda worker: worker.start(), self._workers))
    except BaseException:
      self.close()
      raise

  @property
  def restarts(self) -> int:
    """Counts how often a worker had to be killed or was found dead."""
    return sum(worker.failures for worker in self._workers)

  def score(self, function: int, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Scores answers with one reward function.

    Args:
      function: its position in `functions`.
      texts: n answers.
      rows: their n data rows.

    Returns:
      float64 [n], rewards in order; NaN where the function gave none.

    Raises:
      InputError: if a row holds a value that is not JSON, or a worker cannot be started again.
      RuntimeError: if the workers are closed.
      ValueError: if there are not as many rows as texts.
    """
    if len(texts) != len(rows):
      raise ValueError(f"{len(texts)} texts for {len(rows)} rows")
    bounds = np.linspace(0, len(texts), len(self._workers) + 1).astype(int)
    shares = [slice(start, end) for start, end in itertools.pairwise(bounds) if end > start]
    tasks = [
      self._threads.submit(self._score_share, worker, function, texts[share], rows[share])
      for worker, share in zip(self._workers, shares)
    ]
    rewards = [reward for task in tasks for reward in task.result()]
    return np.array([math.nan if reward is None else reward for reward in rewards], np.float64)

  def _score_share(
    self,
    worker: "WorkerProcess | _InProcess",
    function: int,
    texts: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
  ) -> list[float | None]:
    """Scores a worker's part of a batch; after a failure again, answer by answer."""
    single = len(texts) == 1
    rewards, failure = worker.call(function, texts, rows, self._answer_seconds if single else self._batch_seconds)
    failures = [failure] if rewards is None else []
    if rewards is None and single:
      rewards = [None]
    elif rewards is None:
      results = [worker.call(function, [text], [row], self._answer_seconds) for text, row in zip(texts, rows)]
      rewards = [result[0] if result is not None else None for result, _ in results]
      failures += [failure for result, failure in results if result is None]
    invalid = sum(reward is None for reward in rewards)
    if failures or invalid:
      why = failures[-1] if failures else "returned None, NaN, infinity or no number"
      name = self.functions[function].name
      logging.warning("reward function %s: %d of %d answers have no reward: %s", name, invalid, len(texts), why)
    return rewards

  def close(self) -> None:
    """Kills the workers at once; a `score` under way in another thread raises RuntimeError."""
    for worker in self._workers:
      worker.close()
    self._threads.shutdown(cancel_futures=True)

  def __enter__(self) -> "RewardWorkers":
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()


class _InProcess:
  """Runs the functions in this process; catches exceptions, but neither hangs nor crashes."""

  failures = 0

  def __init__(self, functions: Sequence[tuple[str, Mapping[str, Any]]]):
    self._functions = functions
    self._loaded: list[Callable[..., Sequence[float]]] = []
    self._closed = False

  def start(self) -> None:
    for path, options in self._functions:
      try:
        self._loaded.append(worker_main.load_function(path, options))
      except worker_main.LoadError as error:
        raise InputError(f"reward function {path!r}: {error}") from error

  def call(
    self, function: int, texts: Sequence[str], rows: Sequence[Mapping[str, Any]], seconds: float
  ) -> tuple[list[float | None] | None, str]:
    del seconds
    if self._closed:
      raise RuntimeError("the reward workers are closed")
    return worker_main.call_function(self._loaded[function], self._functions[function][1], texts, rows)

  def close(self) -> None:
    self._closed = True
