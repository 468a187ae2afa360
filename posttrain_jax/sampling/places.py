"""Assigns running requests to slots, and their tokens and prompts to pages of the device's memory.

A request has a slot and the pages of its answer. Its prompt lies in pages of its own, which up to T answers of a group
read together; such a copy of a prompt has one of P rows, by which a decode step finds its readers. All of these are on
the same device; a prompt whose answers run on several devices has a copy on each.
"""

import dataclasses
import heapq
from collections.abc import Iterator

from posttrain_jax.sampling.pages import Pages, pages_for
from posttrain_jax.sampling.requests import Request

# A prompt's copy: (shard, group, sample // share). Samples of equal sample // share read the same copy.
_Name = tuple[int, tuple[int, int], int]


@dataclasses.dataclass(frozen=True)
class Place:
  """Holds where a request begins to run.

  Numbers count from the first slot or page of all devices.

  Attributes:
    slot: the answer's slot.
    pages: pages for the answer's tokens so far and for those of the next dispatch.
    fresh: pages that the prompt has to be copied to; empty if another answer has its copy there already.
  """

  slot: int
  pages: tuple[int, ...]
  fresh: tuple[int, ...]


@dataclasses.dataclass
class PromptCopy:
  """Holds a prompt's copy. Its numbers count on its shard.

  Attributes:
    row: its row among the shard's prompts.
    pages: its pages.
    length: tokens in them: those of the prompt without the last one.
    readers: answers that read it.
  """

  row: int
  pages: list[int]
  length: int
  readers: int = 0


@dataclasses.dataclass
class Running:
  """Holds what a running request has. Its numbers count on its shard.

  Attributes:
    shard: its shard.
    slot: its slot.
    lane: T · (the prompt's row) + sample mod T. It depends on the sample's number alone within the row, so the bits of
      an answer cannot depend on it.
    copy: its prompt's copy.
    pages: pages of its answer.
  """

  shard: int
  slot: int
  lane: int
  copy: _Name
  pages: list[int]


class Places:
  """Tracks which slots, rows and pages are free, and who has the others.

  Attributes:
    running: each running request with what it has, in the order in which they began.
    copies: the copies of prompts.
  """

  def __init__(
    self, *, slots: int, slots_per_shard: int, rows: int, shards: int, share: int, pages: Pages, steps: int, cap: int
  ):
    """Starts with everything free.

    Args:
      slots: slots that are used, equally many on each shard.
      slots_per_shard: rows of the slots' state on each shard, those that are not used included.
      rows: P, rows of prompts; a multiple of `shards`.
      shards: groups of devices that slots, rows and pages are split over.
      share: T, lanes of a row.
      pages: which pages are free.
      steps: most tokens that a dispatch draws in a slot.
      cap: most tokens of an answer.
    """
    self._slots, self._share, self._shards = slots, share, shards
    self._slots_per_shard, self._pages, self._steps, self._cap = slots_per_shard, pages, steps, cap
    self._free_slots = [list(range(slots // shards)) for _ in range(shards)]  # heaps: always the lowest
    self._free_rows = [list(range(rows // shards)) for _ in range(shards)]
    self.copies: dict[_Name, PromptCopy] = {}
    self.running: dict[Request, Running] = {}

  @property
  def free(self) -> int:
    """Counts the free slots."""
    return self._slots - len(self.running)

  @property
  def prompt_tokens(self) -> int:
    """Counts the tokens of prompts that lie in pages."""
    return sum(copy.length for copy in self.copies.values())

  @property
  def pages_in_use(self) -> int:
    """Counts the pages in use."""
    return self._pages.in_use

  def take(self, request: Request) -> Place | None:
    """Assigns a place to a request.

    A shard that holds a copy of the prompt comes first, then the one that has most free slots. The pages that running
    answers need for one more dispatch stay free, so that it need not stop one of them.

    Returns:
      the place; None if no shard has a free slot, room for the prompt, and pages for the answer's beginning.
    """
    group, part = request.group, request.sample // self._share
    length = len(request.prompt.tokens) - 1  # the last prompt token is the first that a slot feeds to the model
    own, of_prompt = self._needed(request), pages_for(length, self._pages.page)

    def fits(shard: int) -> bool:
      has_copy = (shard, group, part) in self.copies
      left = self._pages.free(shard) - own - (0 if has_copy else of_prompt)
      return bool(has_copy or self._free_rows[shard]) and left >= 0 and left >= self._reserve(shard, left)

    candidates = [shard for shard, slots in enumerate(self._free_slots) if slots and fits(shard)]
    if not candidates:
      return None
    shard = max(candidates, key=lambda each: ((each, group, part) in self.copies, len(self._free_slots[each])))
    name, fresh = (shard, group, part), []
    if name not in self.copies:
      fresh = self._pages.take(shard, of_prompt)
      self.copies[name] = PromptCopy(heapq.heappop(self._free_rows[shard]), fresh, length)
    copy = self.copies[name]
    copy.readers += 1
    lane = copy.row * self._share + request.sample % self._share
    slot = heapq.heappop(self._free_slots[shard])
    self.running[request] = Running(shard, slot, lane, name, self._pages.take(shard, own))
    return Place(
      slot=shard * self._slots_per_shard + slot,
      pages=self.pages_of(request),
      fresh=tuple(shard * self._pages.per_shard + page for page in fresh),
    )

  def pages_of(self, request: Request) -> tuple[int, ...]:
    """Returns a running answer's pages, counted from the first page of all devices."""
    has = self.running[request]
    return tuple(has.shard * self._pages.per_shard + page for page in has.pages)

  def victims(self) -> Iterator[Request]:
    """Chooses the answers that have to leave before the next dispatch, because pages run out.

    These are the ones with the fewest tokens of their shard. The one with the most tokens always stays, so all end.
    The caller gives each one back before it asks for the next.
    """
    for shard in range(self._shards):
      while True:
        here = [request for request, has in self.running.items() if has.shard == shard]
        missing = sum(self._needed(request) - len(self.running[request].pages) for request in here)
        if missing <= self._pages.free(shard):
          break
        yield min(reversed(here), key=lambda request: request.drawn)

  def grow(self) -> None:
    """Gives each running answer the pages for the tokens of the next dispatch."""
    for request, has in self.running.items():
      has.pages += self._pages.take(has.shard, max(0, self._needed(request) - len(has.pages)))

  def give_back(self, request: Request) -> None:
    """Frees a request's slot and pages.

    If no other request reads its prompt, the prompt's row and pages become free, too.
    """
    has = self.running.pop(request)
    heapq.heappush(self._free_slots[has.shard], has.slot)
    self._pages.give_back(has.shard, has.pages)
    copy = self.copies[has.copy]
    copy.readers -= 1
    if not copy.readers:
      del self.copies[has.copy]
      heapq.heappush(self._free_rows[has.shard], copy.row)
      self._pages.give_back(has.shard, copy.pages)

  def _needed(self, request: Request, dispatches: int = 1) -> int:
    """Counts the pages that an answer needs for some more dispatches."""
    return pages_for(min(request.drawn + dispatches * self._steps, self._cap), self._pages.page)

  def _reserve(self, shard: int, left: int) -> int:
    """Counts the pages that a shard's answers need for the dispatch after the next.

    If `left` is enough for any answers, it does not count and returns 0.
    """
    most = 2 * pages_for(self._steps, self._pages.page) + 1
    if most * len(self.running) <= left:
      return 0
    return sum(
      max(0, self._needed(request, 2) - len(has.pages)) for request, has in self.running.items() if has.shard == shard
    )
