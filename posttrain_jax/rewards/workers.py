"""Runs reward functions in child processes that can be killed.

A verifier may hang, crash or raise on some answer. The answers of that call are then tried again one by one, so that
only the answers at fault get NaN, which means no reward and is not 0. After a time-out or a crash the child is killed
and replaced. After an exception it is kept. The children, and whatever they started, end when this process ends,
however it ends. Everything here works from any thread.

Each answer has `answer_seconds`, and n answers that share a call have n times as much. So a sound function is never cut
off, however many answers there are. What functions that hang may cost is bounded; `RewardWorkers.score` says how.
"""

import collections
import concurrent.futures
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from posttrain_jax.rewards import worker_main
from posttrain_jax.rewards.worker_process import TIMED_OUT, WorkerProcess
from posttrain_jax.rewards.worker_share import Limits, Share
from posttrain_jax.types import InputError

_SHOW_SECONDS = 15.0  # a longer wait is shown


@dataclasses.dataclass(frozen=True)
class RewardFunction:
  """Describes a reward function and its weight.

  Attributes:
    path: "module:function" or "file.py:function" of a function f(texts, rows, **options). An answer's reward must not
      depend on the other answers of the batch.
    weight: factor of its rewards in the sum; with 0 they are only logged.
    options: keyword arguments, JSON values.
    name: name of the component in logs; by default the function's name.
    lowest: its lowest reward, which answers get that it runs out of time on, if the judge is asked to give one.
  """

  path: str
  weight: float = 1.0
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  name: str = ""
  lowest: float = 0.0

  def __post_init__(self):
    if not self.name:
      object.__setattr__(self, "name", self.path.rpartition(":")[2])
    if not math.isfinite(self.weight):
      raise InputError(f"reward function {self.path!r}: weight is {self.weight}; expected a finite number")
    if not math.isfinite(self.lowest):
      raise InputError(f"reward function {self.path!r}: lowest is {self.lowest}; expected a finite number")


@dataclasses.dataclass(frozen=True)
class Scores:
  """Holds what one reward function says of n answers.

  Attributes:
    rewards: float64 [n]; NaN where there is none.
    abstained: bool [n], True where the function returned None: it has no opinion, which is no failure.
    timed_out: bool [n], True where it ran out of time on this very answer.
    reasons: for each answer on which it failed, by position, why.
  """

  rewards: np.ndarray
  abstained: np.ndarray
  timed_out: np.ndarray
  reasons: Mapping[int, str]

  @property
  def failed(self) -> np.ndarray:
    """Marks the answers on which the function failed: bool [n]."""
    return np.isnan(self.rewards) & ~self.abstained


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
      batch_seconds: bound on the time limit of a call with several answers. A call is given no more answers than have
        their `answer_seconds` in it, and at least one.
      answer_seconds: time limit of one answer.
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
    self._limits = Limits(answer_seconds=answer_seconds, batch_seconds=batch_seconds)
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
    """Scores answers with one reward function, as `judge` does.

    Returns:
      float64 [n], rewards in order; NaN where the function gave none.
    """
    return self.judge(function, texts, rows).rewards

  def judge(self, function: int, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Scores:
    """Judges answers with one reward function.

    What fails has a bounded cost. With patience = max(batch_seconds, 3 * answer_seconds, 10 s), this takes at most
    the time of the sound answers, plus max(batch_seconds, answer_seconds) for the first call that loses its worker,
    plus 2 * patience, one more call, and one start of a worker. Where this is not enough, the rest have no reward;
    `worker_share.Share.judge` has the details. After 15 s, and then each time the wait has doubled, a warning says how
    many answers have been judged.

    Args:
      function: its position in `functions`.
      texts: n answers.
      rows: their n data rows.

    Returns:
      the rewards in order, and where and why there are none.

    Raises:
      InputError: if a row holds a value that is not JSON, or a worker cannot be started again.
      RuntimeError: if the workers are closed.
      ValueError: if there are not as many rows as texts.
    """
    if len(texts) != len(rows):
      raise ValueError(f"{len(texts)} texts for {len(rows)} rows")
    bounds = np.linspace(0, len(texts), len(self._workers) + 1).astype(int)
    shares = [
      Share(texts[start:end], rows[start:end]) for start, end in itertools.pairwise(bounds.tolist()) if end > start
    ]
    tasks = [
      self._threads.submit(share.judge, worker, function, self._limits) for worker, share in zip(self._workers, shares)
    ]
    name = self.functions[function].name
    _wait(tasks, shares, name)
    for task, share in zip(tasks, shares):
      task.result()
      _report(share, name)
    rewards = [reward for share in shares for reward in share.rewards]
    starts = itertools.accumulate((len(share.rewards) for share in shares), initial=0)
    reasons = {start + i: why for start, share in zip(starts, shares) for i, why in share.reasons.items()}
    return Scores(
      np.array([math.nan if reward is None else reward for reward in rewards], np.float64),
      np.array([reward is None for reward in rewards], bool),
      np.array([reasons.get(i, "").startswith(TIMED_OUT) for i in range(len(rewards))], bool),
      reasons,
    )

  def close(self) -> None:
    """Kills the workers at once; a `score` under way in another thread raises RuntimeError."""
    for worker in self._workers:
      worker.close()
    self._threads.shutdown(cancel_futures=True)

  def __enter__(self) -> "RewardWorkers":
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()


def _wait(tasks: Sequence[concurrent.futures.Future], shares: Sequence[Share], name: str) -> None:
  """Waits until all tasks are done or one has raised, and shows that it waits."""
  start, shown = time.monotonic(), _SHOW_SECONDS
  while True:
    left = max(start + shown - time.monotonic(), 0)
    done, pending = concurrent.futures.wait(tasks, left, concurrent.futures.FIRST_EXCEPTION)
    if not pending or any(task.exception() for task in done):
      return
    judged, answers = sum(share.done for share in shares), sum(len(share.rewards) for share in shares)
    failures = [failure for share in shares for failure in share.failures[-1:]]
    why = f" (last failure: {failures[-1]})" if failures else ""
    logging.warning("reward function %s: %d of %d answers judged after %.0f s%s", name, judged, answers, shown, why)
    shown *= 2


def _report(share: Share, name: str) -> None:
  """Logs in one line what went wrong in a share."""
  invalid = len(share.reasons)
  if share.failures or invalid:
    why = share.failures[-1] if share.failures else next(iter(share.reasons.values()))
    logging.warning("reward function %s: %d of %d answers have no reward: %s", name, invalid, len(share.rewards), why)


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
