"""Runs reward functions where they can do no harm: in child processes that can be killed.

A verifier may hang, crash or raise on some answer. The batch is then tried again one answer at a time, so that only the
guilty answers come back as NaN: no reward, which is not 0. A child is killed and replaced after a time-out or a crash;
after an exception it is still sound, and stays. A child never outlives this process, however it ends; only a fork of
this process (not exec) that lives on would keep the children alive, too. Works from any thread.
"""

import collections
import concurrent.futures
import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from posttrain_jax.rewards import worker_main
from posttrain_jax.rewards.worker_process import WorkerProcess
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class RewardFunction:
  """A reward function and what it counts.

  Attributes:
    path: "module:function" of an f(texts, rows, **options) that gives each answer a reward, whatever its company.
    weight: factor of its rewards in the sum; 0 only logs them.
    options: keyword arguments, JSON values.
    name: of the component in logs; by default the function's.
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
  """Worker processes that each have all reward functions loaded. A context manager; `close` ends them.

  Args:
    functions: the reward functions; `score` names them by position.
    workers: number of processes, among which a batch is divided. 0 runs the functions in this process, without time
      limits: for tests and for fast functions that are trusted.
    batch_seconds: time limit of one call with several answers.
    answer_seconds: time limit of a call with one answer. A batch in which k answers hang takes about
      batch_seconds + k * answer_seconds.
    start_seconds: time limit for a worker to start and import the functions.

  Raises:
    InputError: two functions have one name, one cannot be loaded with its options, or a number is out of range.
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
    """How often a worker had to be killed or was found dead."""
    return sum(worker.failures for worker in self._workers)

  def score(self, function: int, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Rewards float64 [n] of n answers by function number `function`, in order; NaN where it gave none.

    Raises:
      InputError: a row holds a value that is not JSON.
      RuntimeError: the workers are closed, or cannot be started again.
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

  def _score_share(self, worker, function: int, texts, rows) -> list[float | None]:
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
    """Ends the workers at once. A call to `score` that is under way in another thread raises."""
    for worker in self._workers:
      worker.close()
    self._threads.shutdown(cancel_futures=True)

  def __enter__(self) -> "RewardWorkers":
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()


class _InProcess:
  """Runs the functions here: exceptions are contained, hanging and crashing are not."""

  failures = 0

  def __init__(self, functions: Sequence[tuple[str, Mapping[str, Any]]]):
    self._functions = functions
    self._loaded: list = []
    self._closed = False

  def start(self) -> None:
    for path, options in self._functions:
      try:
        self._loaded.append(worker_main.load_function(path, options))
      except worker_main.LoadError as error:
        raise InputError(f"reward function {path!r}: {error}") from error

  def call(self, function: int, texts, rows, seconds: float):
    del seconds
    if self._closed:
      raise RuntimeError("the reward workers are closed")
    return worker_main.call_function(self._loaded[function], self._functions[function][1], texts, rows)

  def close(self) -> None:
    self._closed = True
