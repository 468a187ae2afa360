"""Tracks the engine's requests: which wait, run or are finished, and whose prompts are prefilled."""

import collections
import itertools
from collections.abc import Callable, Sequence

from posttrain_jax.sampling.places import Place, Places
from posttrain_jax.sampling.requests import Request, resumed
from posttrain_jax.types import Answer, FinishReason, Group, Prompt

BucketOf = Callable[[int], int]  # from a length in tokens to the width it is padded to


class Ledger:
  """Tracks requests and their groups. A group is known by (prompt index, attempt).

  A request waits in `queue` or `interrupted`, then runs in a slot, then becomes an answer of its group. Before it can
  run, its prompt must be in the pool, the device memory for prompts that were just prefilled.

  Attributes:
    queue: requests without a token yet, samples of a prompt in order.
    interrupted: requests that have tokens and no slot; they go before the queue.
    running: slot to request.
    pool: group to its prompt's row in the pool. A group leaves it when all its requests have begun.
  """

  def __init__(self, prefill_width: int, places: Places):
    """Starts without requests.

    Args:
      prefill_width: W, rows of the pool.
      places: assigns slots and rows to requests that begin to run.
    """
    self._rows, self._places = prefill_width, places
    self.queue: collections.deque[Request] = collections.deque()
    self.interrupted: collections.deque[Request] = collections.deque()
    self.running: dict[int, Request] = {}
    self.pool: dict[tuple[int, int], int] = {}
    self._waiting: collections.Counter[tuple[int, int]] = collections.Counter()  # requests of a group
    # Both in the order of submission.
    self._groups: dict[tuple[int, int], tuple[Prompt, int]] = {}  # with group size
    self._finished: dict[tuple[int, int], dict[int, Answer]] = {}  # then by sample

  @property
  def unfinished(self) -> int:
    """Counts the requests that wait or run."""
    return self.waiting + len(self.running)

  @property
  def waiting(self) -> int:
    """Counts the requests that wait."""
    return len(self.queue) + len(self.interrupted)

  def add(self, prompt: Prompt, answers: Sequence[Answer | None]) -> None:
    """Adds a group.

    Args:
      prompt: the group's prompt.
      answers: one for each sample: finished, suspended, or None if it has not begun.

    Raises:
      ValueError: if the group is here already.
    """
    group = (prompt.index, prompt.attempt)
    if group in self._groups:
      raise ValueError(f"prompt {prompt.index} is under way already at attempt {prompt.attempt}")
    self._groups[group], self._finished[group] = (prompt, len(answers)), {}
    for sample, answer in enumerate(answers):
      if answer is not None and answer.finish_reason != FinishReason.SUSPENDED:
        self._finished[group][sample] = answer
        continue
      request = Request(prompt, sample) if answer is None else resumed(prompt, sample, answer)
      (self.interrupted if request.drawn else self.queue).append(request)
      self._waiting[group] += 1

  def end(self, slot: int, reason: FinishReason) -> list[Group]:
    """Ends the request in a slot.

    Returns:
      its group, if this was the group's last unfinished request; else nothing.
    """
    request = self.running.pop(slot)
    self._places.give_back(request)
    answers = self._finished[request.group]
    answers[request.sample] = request.answer(reason)
    if len(answers) < self._groups[request.group][1]:
      return []
    del self._finished[request.group], self._groups[request.group]
    return [Group(prompt=request.prompt, answers=tuple(answers[i] for i in range(len(answers))))]

  def preempt(self, slot: int) -> None:
    """Takes a request out of its slot.

    It keeps its tokens and waits before all others that wait.
    """
    request = self.running.pop(slot)
    self._places.give_back(request)
    (self.interrupted if request.drawn else self.queue).appendleft(request)
    self._waiting[request.group] += 1

  def take_all(self) -> list[Group]:
    """Removes all groups and returns them in the order of submission, unfinished answers as SUSPENDED."""
    for request in [*self.running.values(), *self.interrupted, *self.queue]:
      self._finished[request.group][request.sample] = request.answer(FinishReason.SUSPENDED)
    groups = [
      Group(prompt=prompt, answers=tuple(self._finished[group][i] for i in range(size)))
      for group, (prompt, size) in self._groups.items()
    ]
    for request in self.running.values():
      self._places.give_back(request)
    for kept in (self.queue, self.interrupted, self.running, self.pool, self._waiting, self._groups, self._finished):
      kept.clear()
    return groups

  def take_unfilled(self, bucket_of: BucketOf) -> list[tuple[int, Prompt]]:
    """Chooses the prompts of the next prefill and gives them rows of the pool.

    These are the first waiting request's prompt and later ones in the same bucket, as many as the pool has room for.

    Returns:
      (row of the pool, prompt) pairs; empty if the first waiting request's prompt is in the pool already.
    """
    if (self.interrupted or self.queue)[0].group in self.pool:
      return []
    if len(self.pool) == self._rows:
      self.pool.clear()  # resumed answers went before these prompts; they are prefilled again later
    used = set(self.pool.values())
    free = [row for row in range(self._rows) if row not in used]
    batch: dict[tuple[int, int], Prompt] = {}
    bucket = None  # of the first prompt
    # Only as far as there is room: looking at all that waits, at each prefill, would take the square of its number.
    for request in itertools.chain(self.interrupted, self.queue):
      if len(batch) == len(free):
        break
      length = len(request.prompt.tokens)
      bucket = bucket_of(length) if bucket is None else bucket
      if request.group not in self.pool and bucket_of(length) == bucket:
        batch[request.group] = request.prompt
    self.pool.update(zip(batch, free))
    return list(zip(free, batch.values()))

  def take_next(self) -> list[tuple[Request, Place, int]]:
    """Starts waiting requests in order.

    It stops at the first one whose prompt is not in the pool, or for which no place is free.

    Returns:
      the requests that run from now on, each with its place and its prompt's row of the pool.
    """
    taken = []
    for waiting in (self.interrupted, self.queue):
      while waiting and waiting[0].group in self.pool:
        place = self._places.take(waiting[0])
        if place is None:
          return taken
        request = waiting.popleft()
        self.running[place.slot] = request
        taken.append((request, place, self.pool[request.group]))
        self._waiting[request.group] -= 1
        if not self._waiting[request.group]:
          del self.pool[request.group], self._waiting[request.group]
      if waiting:
        return taken
    return taken
