"""Has a worker judge its part of a batch.

It bounds the time that hanging answers cost.
"""

import collections
import dataclasses
import math
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

_FIRST_TRIES = 3  # a function that hangs on so many answers, picked at random, hangs on all of them
_LEAST_PATIENCE = 10.0  # seconds, since limits may be shorter than a worker's start, which counts as well
_SHORT_FACTOR, _SHORT_SECONDS = 20, 0.2  # the short limit: so many times the slowest sound answer, at least so long


class Worker(Protocol):
  """Names what a share needs of a worker."""

  failures: int

  def call(
    self, function: int, texts: Sequence[str], rows: Sequence[Mapping[str, Any]], seconds: float
  ) -> tuple[list[float | None] | None, str]:
    """Calls a function on a batch, as `worker_process.WorkerProcess.call`."""


@dataclasses.dataclass(frozen=True)
class Limits:
  """Holds time limits.

  Attributes:
    answer_seconds: limit of one answer.
    batch_seconds: bound on the limit of a call with several answers.
  """

  answer_seconds: float
  batch_seconds: float

  @property
  def answers_per_call(self) -> int:
    """Returns how many answers have their own limit in that of a call; at least 1."""
    return max(1, int(self.batch_seconds / self.answer_seconds + 1e-9))

  @property
  def patience(self) -> float:
    """Returns the seconds of waste after which limits become short.

    After twice as many a worker gives up.
    """
    return max(self.batch_seconds, _FIRST_TRIES * self.answer_seconds, _LEAST_PATIENCE)


class Share:
  """Holds a worker's part of a batch while it is judged.

  Attributes:
    rewards: one for each answer; None where the function abstained, NaN where there is none (yet).
    reasons: for each answer without a reward, by its position, why it has none.
    done: how many answers have been judged, or tried in vain.
    failures: what went wrong in calls, in order.
  """

  def __init__(self, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]):
    self.rewards: list[float | None] = [math.nan] * len(texts)
    self.reasons: dict[int, str] = {}
    self.done = 0
    self.failures: list[str] = []
    self._texts, self._rows = texts, rows
    self._slowest = 0.0  # seconds of the slowest answer that got its reward
    self._wasted = 0.0  # seconds of calls that failed, and of the starts of new workers

  def judge(self, worker: Worker, function: int, limits: Limits) -> None:
    """Judges all answers.

    At first a call has `limits.answers_per_call` answers. If one raises, its answers are asked for one by one. If one
    hangs or ends the worker, all other answers are asked for one by one, in a random order, since the answers to a
    prompt often hang together. If nothing but losses has come of the first call and the next three, it gives up.

    After that first loss, calls that fail may cost twice `limits.patience` seconds. When half of it is gone, the limit
    of an answer is short: 20 times that of the slowest sound answer. When all is gone, the worker gives up.

    Args:
      worker: who judges.
      function: number of the function.
      limits: the time limits.
    """
    size = limits.answers_per_call
    calls = collections.deque(
      range(len(self._texts))[start : start + size] for start in range(0, len(self._texts), size)
    )
    alone, was_lost, tries, all_lost = False, False, 0, True
    while calls and not self._gives_up(limits, tries, all_lost):
      part = calls.popleft()
      before, start = worker.failures, time.monotonic()
      got = self._ask(worker, function, part, self._limit(limits) * len(part))
      seconds, lost = time.monotonic() - start, not got and worker.failures > before
      if got and not was_lost:
        self._slowest = max(self._slowest, seconds / len(part))
      all_lost = all_lost and lost
      if lost and not alone:
        alone = True
        others = [index for call in calls for index in call] + (list(part) if len(part) > 1 else [])
        random.Random(0).shuffle(others)
        calls = collections.deque([index] for index in others)
      else:
        tries += alone
        self._wasted += seconds if not got or was_lost else 0  # after a loss, a new worker starts
        if not got and len(part) > 1:
          calls.extendleft([index] for index in reversed(part))
      was_lost = lost
    left = sum(map(len, calls))
    if left:
      self.done += left
      why = f"given up, as others {self.failures[-1]}"
      self.reasons |= {index: why for call in calls for index in call}
      self.failures.append(f"{self.failures[-1]}; {left} answers were given up, as many others failed like this")

  def _gives_up(self, limits: Limits, tries: int, all_lost: bool) -> bool:
    return (tries >= _FIRST_TRIES and all_lost) or self._wasted >= 2 * limits.patience

  def _limit(self, limits: Limits) -> float:
    if self._wasted < limits.patience or not self._slowest:
      return limits.answer_seconds
    return min(limits.answer_seconds, max(_SHORT_SECONDS, _SHORT_FACTOR * self._slowest))

  def _ask(self, worker: Worker, function: int, part: Sequence[int], seconds: float) -> bool:
    """Asks for the rewards of some answers; returns whether they came."""
    texts, rows = [self._texts[index] for index in part], [self._rows[index] for index in part]
    rewards, failure = worker.call(function, texts, rows, seconds)
    if rewards is None:
      self.failures.append(failure)
      self.reasons |= {index: failure for index in part}  # of several, those that are asked for again lose it
      self.done += len(part) == 1  # those of a larger call are asked for again
      return False
    for index, reward in zip(part, rewards):
      self.rewards[index] = reward
      self.reasons.pop(index, None)
      if reward is not None and math.isnan(reward):
        self.reasons[index] = failure
    self.done += len(part)
    return True
