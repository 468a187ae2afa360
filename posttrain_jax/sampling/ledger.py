"""Tracks the engine's requests: which wait, begin, run or are finished."""

import collections
import itertools
from collections.abc import Iterable, Iterator, Sequence

from posttrain_jax.sampling.places import Places
from posttrain_jax.sampling.requests import GroupName, Request, resumed
from posttrain_jax.types import Answer, FinishReason, Group, Prompt


class Ledger:
  """Tracks requests and their groups. A group is known by (prompt index, attempt).

  A request waits in `queue` or `interrupted`. Then it has a slot: in `beginning` until its keys and values are
  computed, in `running` after that. Then it becomes an answer of its group.

  Attributes:
    queue: requests without a token yet, samples of a prompt in order.
    interrupted: requests that have tokens and no slot; they go before the queue.
    beginning: slot to request that does not draw yet.
    running: slot to request that draws.
  """

  def __init__(self, places: Places):
    """Starts without requests.

    Args:
      places: assigns slots and pages to requests.
    """
    self._places = places
    self.queue: collections.deque[Request] = collections.deque()
    self.interrupted: collections.deque[Request] = collections.deque()
    self.beginning: dict[int, Request] = {}
    self.running: dict[int, Request] = {}
    self._waiting: collections.Counter[GroupName] = collections.Counter()  # requests of a group
    # Both in the order of submission.
    self._groups: dict[GroupName, tuple[Prompt, int]] = {}  # with group size
    self._finished: dict[GroupName, dict[int, Answer]] = {}  # then by sample

  @property
  def unfinished(self) -> int:
    """Counts the requests that wait, begin or run."""
    return self.waiting + len(self.beginning) + len(self.running)

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

  def place(self) -> list[Request]:
    """Gives slots to waiting requests in order, until no place is free for the next one.

    Returns:
      the requests that have a slot now.
    """
    taken = []
    for waiting in (self.interrupted, self.queue):
      while waiting:
        slot = self._places.take(waiting[0])
        if slot is None:
          return taken
        request = waiting.popleft()
        self.beginning[slot] = request
        taken.append(request)
        self._waiting[request.group] -= 1
        if not self._waiting[request.group]:
          del self._waiting[request.group]
          self._places.forget(request.group)
    return taken

  def in_line(self) -> Iterator[Request]:
    """Returns the waiting requests in the order in which they get slots."""
    return itertools.chain(self.interrupted, self.queue)

  def begin(self, slots: Iterable[int]) -> None:
    """Notes that the requests in some slots draw from now on."""
    for slot in slots:
      self.running[slot] = request = self.beginning.pop(slot)
      self._places.placed[request].begun = True

  def end(self, slot: int, reason: FinishReason) -> list[Group]:
    """Ends the running request in a slot.

    Returns:
      its group, if this was the group's last unfinished request; else nothing.
    """
    request = self.running.pop(slot)
    self._places.give_back(request, keep=request.group in self._waiting)
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
    request = self.running.pop(slot) if slot in self.running else self.beginning.pop(slot)
    self._places.give_back(request, keep=True)
    (self.interrupted if request.drawn else self.queue).appendleft(request)
    self._waiting[request.group] += 1

  def take_all(self) -> list[Group]:
    """Removes all groups and returns them in the order of submission, unfinished answers as SUSPENDED."""
    placed = [*self.running.values(), *self.beginning.values()]
    for request in [*placed, *self.in_line()]:
      self._finished[request.group][request.sample] = request.answer(FinishReason.SUSPENDED)
    groups = [
      Group(prompt=prompt, answers=tuple(self._finished[group][i] for i in range(size)))
      for group, (prompt, size) in self._groups.items()
    ]
    for request in placed:
      self._places.give_back(request, keep=False)
    for group in self._groups:
      self._places.forget(group)
    for kept in (self.queue, self.interrupted, self.beginning, self.running):
      kept.clear()
    for kept in (self._waiting, self._groups, self._finished):
      kept.clear()
    return groups
