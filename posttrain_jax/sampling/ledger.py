"""Tracks the engine's requests: which wait, begin, run or are finished."""

import collections
import itertools
from collections.abc import Iterable, Iterator, Sequence

from posttrain_jax.sampling.own_sampling import OwnSampling
from posttrain_jax.sampling.places import Places
from posttrain_jax.sampling.requests import GroupName, Request, resumed
from posttrain_jax.types import Answer, FinishReason, Group, Prompt


class Ledger:
  """Tracks requests and their groups. A group is known by (prompt index, attempt).

  A request waits in `queue` or `interrupted`. Then it has a slot (`Places.placed`): it is in `beginning` until its keys
  and values are computed, and in `running` after that. Then it becomes an answer of its group.

  Attributes:
    queue: requests without a token yet, samples of a prompt in order.
    interrupted: requests that have tokens and no slot; they go before the queue.
    ended: answers that ended since there was last no unfinished request.
  """

  def __init__(self, places: Places):
    """Starts without requests.

    Args:
      places: assigns slots and pages to requests.
    """
    self._places = places
    self.queue: collections.deque[Request] = collections.deque()
    self.interrupted: collections.deque[Request] = collections.deque()
    self.ended = 0
    self._waiting: collections.Counter[GroupName] = collections.Counter()  # requests of a group
    # Both in the order of submission.
    self._groups: dict[GroupName, tuple[Prompt, int]] = {}  # with group size
    self._finished: dict[GroupName, dict[int, Answer]] = {}  # then by sample

  @property
  def unfinished(self) -> int:
    """Counts the requests that wait, begin or run."""
    return self.waiting + len(self._places.placed)

  @property
  def waiting(self) -> int:
    """Counts the requests that wait."""
    return len(self.queue) + len(self.interrupted)

  @property
  def beginning(self) -> dict[int, Request]:
    """Returns the requests that have a slot and do not draw yet, by slot."""
    return self._in_slots(begun=False)

  @property
  def running(self) -> dict[int, Request]:
    """Returns the requests that draw, by slot."""
    return self._in_slots(begun=True)

  def _in_slots(self, *, begun: bool) -> dict[int, Request]:
    placed = self._places.placed.items()
    return {self._places.slot_of(request): request for request, has in placed if has.begun == begun}

  def add(self, prompt: Prompt, answers: Sequence[Answer | None], own: OwnSampling | None = None) -> None:
    """Adds a group.

    Args:
      prompt: the group's prompt.
      answers: one for each sample: finished, suspended, or None if it has not begun.
      own: the group's sampling; None if the engine draws all alike.

    Raises:
      ValueError: if the group is here already.
    """
    if not self.unfinished:
      self.ended = 0
    group = (prompt.index, prompt.attempt)
    if group in self._groups:
      raise ValueError(f"prompt {prompt.index} is under way already at attempt {prompt.attempt}")
    self._groups[group], self._finished[group] = (prompt, len(answers)), {}
    for sample, answer in enumerate(answers):
      if answer is not None and answer.finish_reason != FinishReason.SUSPENDED:
        self._finished[group][sample] = answer
        continue
      request = Request(prompt, sample, own) if answer is None else resumed(prompt, sample, answer, own)
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
        if self._places.take(waiting[0]) is None:
          return taken
        request = waiting.popleft()
        taken.append(request)
        self._waiting[request.group] -= 1
        if not self._waiting[request.group]:
          del self._waiting[request.group]
          self._places.forget(request.group)
    return taken

  def in_line(self) -> Iterator[Request]:
    """Returns the waiting requests in the order in which they get slots."""
    return itertools.chain(self.interrupted, self.queue)

  def begin(self, requests: Iterable[Request]) -> None:
    """Notes that requests in slots draw from now on."""
    for request in requests:
      self._places.placed[request].begun = True

  def end(self, request: Request, reason: FinishReason) -> list[Group]:
    """Ends a running request.

    Returns:
      its group, if this was the group's last unfinished request; else nothing.
    """
    self._places.give_back(request, keep=request.group in self._waiting)
    self.ended += 1
    answers = self._finished[request.group]
    answers[request.sample] = request.answer(reason)
    if len(answers) < self._groups[request.group][1]:
      return []
    del self._finished[request.group], self._groups[request.group]
    return [Group(prompt=request.prompt, answers=tuple(answers[i] for i in range(len(answers))))]

  def preempt(self, request: Request) -> None:
    """Takes a request out of its slot.

    It keeps its tokens and waits before all others that wait.
    """
    self._places.give_back(request, keep=True)
    (self.interrupted if request.drawn else self.queue).appendleft(request)
    self._waiting[request.group] += 1

  def cancel(self, group: GroupName) -> list[int]:
    """Removes a group with all its requests.

    Returns:
      the slots of those that draw, which the device has to end.

    Raises:
      KeyError: if there is no such group.
    """
    del self._groups[group], self._finished[group]
    slots = [slot for slot, request in self.running.items() if request.group == group]
    for request in [request for request in self._places.placed if request.group == group]:
      self._places.give_back(request, keep=False)
    for waiting in (self.interrupted, self.queue):
      left = [request for request in waiting if request.group != group]
      waiting.clear()
      waiting.extend(left)
    self._waiting.pop(group, None)
    self._places.forget(group)
    return slots

  def take_all(self) -> list[Group]:
    """Removes all groups and returns them in the order of submission, unfinished answers as SUSPENDED."""
    placed = list(self._places.placed)
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
    for kept in (self.queue, self.interrupted, self._waiting, self._groups, self._finished):
      kept.clear()
    return groups
