"""The engine's books on requests, on the host alone: who waits, who runs, what is finished, whose prompt is ready."""

import collections
import itertools
from collections.abc import Callable, Sequence

from posttrain_jax.sampling.places import Place, Places
from posttrain_jax.sampling.requests import Request, continued
from posttrain_jax.types import Answer, FinishReason, Group, Prompt

BucketOf = Callable[[int], int]  # from a length in tokens to the width it is padded to


class Ledger:
  """Books on requests. A group is known by prompt index and attempt.

  Attributes:
    queue: requests without a token yet, samples of a prompt in order.
    interrupted: requests that have tokens and no slot; they go before the queue.
    running: requests by slot.
    pool: groups whose prompt has just been prefilled, with their row of the pool; until all their requests have begun.
  """

  def __init__(self, prefill_width: int, places: Places):
    """Starts empty; the pool has `prefill_width` rows, and requests run in `places`."""
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
    """Number of requests that wait or run."""
    return self.waiting + len(self.running)

  @property
  def waiting(self) -> int:
    """Number of requests that wait."""
    return len(self.queue) + len(self.interrupted)

  def add(self, prompt: Prompt, answers: Sequence[Answer | None]) -> None:
    """Takes in a group: answers that are finished, suspended, or not begun (None).

    Raises:
      ValueError: it is here already.
    """
    name = (prompt.index, prompt.attempt)
    if name in self._groups:
      raise ValueError(f"prompt {prompt.index} is under way already at attempt {prompt.attempt}")
    self._groups[name], self._finished[name] = (prompt, len(answers)), {}
    for sample, answer in enumerate(answers):
      if answer is not None and answer.finish_reason != FinishReason.SUSPENDED:
        self._finished[name][sample] = answer
        continue
      request = Request(prompt, sample) if answer is None else continued(prompt, sample, answer)
      (self.interrupted if request.drawn else self.queue).append(request)
      self._waiting[name] += 1

  def end(self, slot: int, reason: FinishReason) -> list[Group]:
    """Ends the request in a slot; returns its group if that was its last one."""
    request = self.running.pop(slot)
    self._places.give_back(request)
    return self._finish(request, reason)

  def _finish(self, request: Request, reason: FinishReason) -> list[Group]:
    answers = self._finished[request.name]
    answers[request.sample] = request.answer(reason)
    if len(answers) < self._groups[request.name][1]:
      return []
    del self._finished[request.name], self._groups[request.name]
    return [Group(prompt=request.prompt, answers=tuple(answers[i] for i in range(len(answers))))]

  def drop(self, names: set[tuple[int, int]]) -> tuple[list[int], list[Group]]:
    """Ends all requests of these groups; returns the slots that were theirs, and the groups."""
    slots = [slot for slot, request in self.running.items() if request.name in names]
    groups = [group for slot in slots for group in self.end(slot, FinishReason.CANCELLED)]
    for waiting in (self.interrupted, self.queue):
      dropped = [request for request in waiting if request.name in names]
      kept = [request for request in waiting if request.name not in names]
      waiting.clear()
      waiting.extend(kept)
      groups += [group for request in dropped for group in self._finish(request, FinishReason.CANCELLED)]
    for name in names:
      self.pool.pop(name, None)
      del self._waiting[name]
    return slots, groups

  def take_all(self) -> list[Group]:
    """Empties the books: the groups under way in the order of their submission, unfinished answers SUSPENDED."""
    for request in [*self.running.values(), *self.interrupted, *self.queue]:
      self._finished[request.name][request.sample] = request.answer(FinishReason.SUSPENDED)
    groups = [
      Group(prompt=prompt, answers=tuple(self._finished[name][i] for i in range(size)))
      for name, (prompt, size) in self._groups.items()
    ]
    for request in self.running.values():
      self._places.give_back(request)
    for books in (self.queue, self.interrupted, self.running, self.pool, self._waiting, self._groups, self._finished):
      books.clear()
    return groups

  def take_unfilled(self, bucket_of: BucketOf) -> list[tuple[int, Prompt]]:
    """Gives rows of the pool to the prompt that is next and to those behind it that share its bucket.

    Returns:
      (row, prompt) of those that are to be prefilled, as many as the pool has room for; none if the next is there.
    """
    if (self.interrupted or self.queue)[0].name in self.pool:
      return []
    waiting = {request.name: request.prompt for request in itertools.chain(self.interrupted, self.queue)}
    if len(self.pool) == self._rows:
      self.pool.clear()  # prompts that stood first before others were resumed: they are prefilled again
    bucket = bucket_of(len(next(iter(waiting.values())).tokens))
    free = [row for row in range(self._rows) if row not in self.pool.values()]
    batch = [
      (name, prompt)
      for name, prompt in waiting.items()
      if name not in self.pool and bucket_of(len(prompt.tokens)) == bucket
    ]
    taken = list(zip(free, batch))
    self.pool.update({name: row for row, (name, _) in taken})
    return [(row, prompt) for row, (_, prompt) in taken]

  def take_next(self) -> list[tuple[Request, Place, int]]:
    """Takes requests in order, as long as their prompts are in the pool and there is a place for them.

    Returns:
      Requests that run from now on, with their places and the pool's rows of their prompts.
    """
    taken = []
    for waiting in (self.interrupted, self.queue):
      while waiting and waiting[0].name in self.pool:
        place = self._places.take(waiting[0])
        if place is None:
          return taken
        request = waiting.popleft()
        self.running[place.slot] = request
        taken.append((request, place, self.pool[request.name]))
        self._waiting[request.name] -= 1
        if not self._waiting[request.name]:
          del self.pool[request.name], self._waiting[request.name]
      if waiting:
        return taken
    return taken
