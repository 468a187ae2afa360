"""The engine's books, on the host alone: who waits, who runs in which slot, what is finished, whose prefix is where."""

import collections
from collections.abc import Callable, Sequence

from posttrain_jax.sampling.requests import Request, continued
from posttrain_jax.types import Answer, FinishReason, Group, Prompt

BucketOf = Callable[[int], int]  # from a length in tokens to the width it is padded to


class Ledger:
  """Books on requests. A group is known by prompt index and attempt.

  Attributes:
    queue: requests without a token yet, samples of a prompt in order.
    interrupted: requests that have tokens and no slot; they go before the queue.
    running: requests by slot.
    prefixes: groups whose prompt is in the pool, with their row of it.
  """

  def __init__(self, prefill_width: int):
    """Starts empty; the pool has `prefill_width` rows."""
    self._rows = prefill_width
    self.queue: collections.deque[Request] = collections.deque()
    self.interrupted: collections.deque[Request] = collections.deque()
    self.running: dict[int, Request] = {}
    self.prefixes: dict[tuple[int, int], int] = {}
    # Both in the order of submission.
    self._groups: dict[tuple[int, int], tuple[Prompt, int]] = {}  # with group size
    self._finished: dict[tuple[int, int], dict[int, Answer]] = {}  # then by sample

  @property
  def unfinished(self) -> int:
    """Number of requests that wait or run."""
    return len(self.queue) + len(self.interrupted) + len(self.running)

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

  def finish(self, request: Request, reason: FinishReason) -> list[Group]:
    """Ends a request; returns its group if that was its last one."""
    answers = self._finished[request.name]
    answers[request.sample] = request.answer(reason)
    if len(answers) < self._groups[request.name][1]:
      return []
    del self._finished[request.name], self._groups[request.name]
    return [Group(prompt=request.prompt, answers=tuple(answers[i] for i in range(len(answers))))]

  def drop(self, names: set[tuple[int, int]]) -> tuple[list[int], list[Group]]:
    """Ends all requests of these groups; returns the slots that were theirs, and the groups."""
    slots = [slot for slot, request in self.running.items() if request.name in names]
    dropped = [self.running.pop(slot) for slot in slots]
    for waiting in (self.interrupted, self.queue):
      dropped += [request for request in waiting if request.name in names]
      kept = [request for request in waiting if request.name not in names]
      waiting.clear()
      waiting.extend(kept)
    for name in names:
      self.prefixes.pop(name, None)
    return slots, [group for request in dropped for group in self.finish(request, FinishReason.CANCELLED)]

  def take_all(self) -> list[Group]:
    """Empties the books: the groups under way in the order of their submission, unfinished answers SUSPENDED."""
    for request in [*self.running.values(), *self.interrupted, *self.queue]:
      self._finished[request.name][request.sample] = request.answer(FinishReason.SUSPENDED)
    groups = [
      Group(prompt=prompt, answers=tuple(self._finished[name][i] for i in range(size)))
      for name, (prompt, size) in self._groups.items()
    ]
    for books in (self.queue, self.interrupted, self.running, self.prefixes, self._groups, self._finished):
      books.clear()
    return groups

  def take_interrupted(self, most: int, bucket_of: BucketOf) -> list[Request]:
    """Takes the first interrupted request and those behind it that share its bucket, `most` in all."""
    bucket = bucket_of(self.interrupted[0].length)
    taken = [request for request in self.interrupted if bucket_of(request.length) == bucket][:most]
    for request in taken:
      self.interrupted.remove(request)
    return taken

  def take_unfilled(self, bucket_of: BucketOf) -> list[tuple[int, Prompt]]:
    """Gives rows of the pool to the prompt at the head of the queue and to those behind it that share its bucket.

    Returns:
      (row, prompt) of those that are to be prefilled, as many as the pool has room for; none if the head's is there.
    """
    waiting = list({request.name: request.prompt for request in self.queue}.items())
    if waiting[0][0] in self.prefixes:
      return []
    bucket = bucket_of(len(waiting[0][1].tokens))
    free = [row for row in range(self._rows) if row not in self.prefixes.values()]
    batch = [
      (name, prompt)
      for name, prompt in waiting
      if name not in self.prefixes and bucket_of(len(prompt.tokens)) == bucket
    ]
    taken = list(zip(free, batch))
    self.prefixes.update({name: row for row, (name, _) in taken})
    return [(row, prompt) for row, (_, prompt) in taken]

  def take_queued(self, most: int) -> tuple[list[Request], list[int]]:
    """Takes requests from the queue's head as long as their prompts are in the pool; returns them and those rows."""
    requests, rows = [], []
    while self.queue and len(requests) < most and self.queue[0].name in self.prefixes:
      request = self.queue.popleft()
      requests.append(request)
      rows.append(self.prefixes[request.name])
      if request.sample == self._groups[request.name][1] - 1:  # samples are queued in order, so this was the last
        del self.prefixes[request.name]
    return requests, rows
