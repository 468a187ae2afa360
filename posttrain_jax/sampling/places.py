"""Assigns requests to slots, and their tokens and prompts to pages of the device's memory.

A request has a slot and the pages of its answer. Its prompt lies in pages of its own, which up to T answers of a group
read together; such a copy of a prompt has one of P rows, by which a decode step finds its readers. All of these are on
the same device; a prompt whose answers run on several devices has a copy on each.

A copy without readers is idle. It stays while answers of its group wait, and gives way if its pages are needed.
"""

import dataclasses
import heapq
from collections.abc import Iterator

from posttrain_jax.sampling.pages import Pages, pages_for
from posttrain_jax.sampling.requests import GroupName, Request

# A prompt's copy: (shard, group, sample // share). Samples of equal sample // share read the same copy.
Name = tuple[int, GroupName, int]


@dataclasses.dataclass
class PromptCopy:
  """Holds a prompt's copy. Its numbers count on its shard.

  Attributes:
    tokens: the prompt without its last token, which is the first that a slot feeds to the model.
    pages: its pages.
    filled: tokens whose keys and values are in the pages.
    row: its row among the shard's prompts; None while it is idle.
    readers: answers that read it.
  """

  tokens: tuple[int, ...]
  pages: list[int]
  filled: int = 0
  row: int | None = None
  readers: int = 0

  @property
  def complete(self) -> bool:
    """Says whether all its keys and values are in its pages."""
    return self.filled == len(self.tokens)


@dataclasses.dataclass
class Placed:
  """Holds what a request in a slot has. Its numbers count on its shard.

  Attributes:
    shard: its shard.
    slot: its slot.
    lane: T · (the prompt's row) + sample mod T. It depends on the sample's number alone within the row, so the bits of
      an answer cannot depend on it.
    copy: its prompt's copy.
    pages: pages of its answer, for its tokens so far and those of the next dispatch.
    filled: tokens that were drawn before it got this slot, and whose keys and values are in its pages.
    begun: whether it draws tokens; before that, keys and values are computed.
  """

  shard: int
  slot: int
  lane: int
  copy: Name
  pages: list[int]
  filled: int = 0
  begun: bool = False


class Places:
  """Tracks which slots, rows and pages are free, and who has the others.

  Attributes:
    placed: each request in a slot with what it has, in the order in which they came.
    copies: the copies of prompts, the oldest first.
    shards: groups of devices that slots, rows and pages are split over.
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
    self._share, self.shards = share, shards
    self._slots_per_shard, self._pages, self._steps, self._cap = slots_per_shard, pages, steps, cap
    self._free_slots = [list(range(slots // shards)) for _ in range(shards)]  # heaps: always the lowest
    self._free_rows = [list(range(rows // shards)) for _ in range(shards)]
    self._idle: list[dict[Name, PromptCopy]] = [{} for _ in range(shards)]
    self.copies: dict[Name, PromptCopy] = {}
    self.placed: dict[Request, Placed] = {}

  @property
  def prompt_tokens(self) -> int:
    """Counts the tokens of prompts that answers in slots read."""
    return sum(len(copy.tokens) for copy in self.copies.values() if copy.readers)

  @property
  def pages_in_use(self) -> int:
    """Counts the pages of answers in slots and of their prompts."""
    return self._pages.in_use - sum(self._idle_pages(shard) for shard in range(self.shards))

  def name_of(self, request: Request, shard: int) -> Name:
    """Names the copy of its prompt that a request reads on a shard."""
    return shard, request.group, request.sample // self._share

  def take(self, request: Request) -> int | None:
    """Assigns a place to a request, which does not draw yet.

    A shard that holds a copy of the prompt comes first, then the one that has most free slots. The pages that the
    others need for one more dispatch stay free, so that it need not stop one of them.

    Returns:
      the slot, counted from the first of all devices; None if no shard has a free slot, room for the prompt, and pages
      for the answer's beginning.
    """
    own, of_prompt = self._needed(request), self._pages_of_prompt(request)

    def fits(shard: int) -> bool:
      copy = self.copies.get(self.name_of(request, shard))
      is_read = bool(copy and copy.readers)  # an idle copy is kept, so its pages are none of those that can be had
      left = self._pages.free(shard) + self._idle_pages(shard) - own - (0 if is_read else of_prompt)
      return (is_read or bool(self._free_rows[shard])) and left >= 0 and left >= self._reserve(shard, left)

    candidates = [shard for shard, slots in enumerate(self._free_slots) if slots and fits(shard)]
    if not candidates:
      return None
    shard = max(candidates, key=lambda each: (self.name_of(request, each) in self.copies, len(self._free_slots[each])))
    name = self.name_of(request, shard)
    self._idle[shard].pop(name, None)
    copy = self.copies.get(name) or self._make_copy(request, shard)
    if copy.row is None:
      copy.row = heapq.heappop(self._free_rows[shard])
    copy.readers += 1
    lane = copy.row * self._share + request.sample % self._share
    self.placed[request] = Placed(shard, heapq.heappop(self._free_slots[shard]), lane, name, self._claim(shard, own))
    return self.slot_of(request)

  def take_ahead(self, request: Request, shard: int) -> bool:
    """Makes an idle copy of a waiting request's prompt, if free pages are left for it."""
    left = self._pages.free(shard) - self._pages_of_prompt(request)
    if left < 0 or left < self._reserve(shard, left):
      return False
    self._idle[shard][self.name_of(request, shard)] = self._make_copy(request, shard)
    return True

  def slot_of(self, request: Request) -> int:
    """Returns a request's slot, counted from the first one of all devices."""
    has = self.placed[request]
    return has.shard * self._slots_per_shard + has.slot

  def pages_of(self, request: Request) -> tuple[int, ...]:
    """Returns an answer's pages, counted from the first page of all devices."""
    has = self.placed[request]
    return self.on_all(has.shard, has.pages)

  def on_all(self, shard: int, pages: list[int]) -> tuple[int, ...]:
    """Returns pages of a shard, counted from the first page of all devices."""
    return tuple(shard * self._pages.per_shard + page for page in pages)

  def victims(self) -> Iterator[Request]:
    """Chooses the answers that have to leave before the next dispatch, because pages run out.

    These are the ones with the fewest tokens of their shard. The one with the most tokens always stays, so all end.
    The caller gives each one back before it asks for the next.
    """
    for shard in range(self.shards):
      while True:
        here = [request for request, has in self.placed.items() if has.shard == shard]
        missing = sum(self._needed(request) - len(self.placed[request].pages) for request in here)
        if missing <= self._pages.free(shard) + self._idle_pages(shard):
          break
        yield min(reversed(here), key=lambda request: request.drawn)

  def grow(self) -> None:
    """Gives each answer the pages for the tokens of the next dispatch."""
    for request, has in self.placed.items():
      has.pages += self._claim(has.shard, max(0, self._needed(request) - len(has.pages)))

  def give_back(self, request: Request, *, keep: bool) -> None:
    """Frees a request's slot and pages.

    If no other request reads its prompt, the prompt's row becomes free, too.

    Args:
      request: the request.
      keep: whether other requests of its group wait, for which the prompt's pages are kept.
    """
    has = self.placed.pop(request)
    heapq.heappush(self._free_slots[has.shard], has.slot)
    self._pages.give_back(has.shard, has.pages)
    copy = self.copies[has.copy]
    copy.readers -= 1
    if not copy.readers:
      heapq.heappush(self._free_rows[has.shard], copy.row)
      copy.row = None
      self._idle[has.shard][has.copy] = copy
      if not keep:
        self._drop(has.copy)

  def forget(self, group: GroupName) -> None:
    """Frees the pages of a group's idle copies."""
    for idle in self._idle:
      for name in [name for name in idle if name[1] == group]:
        self._drop(name)

  def _pages_of_prompt(self, request: Request) -> int:
    return pages_for(len(request.prompt.tokens) - 1, self._pages.page)  # without its last token

  def _make_copy(self, request: Request, shard: int) -> PromptCopy:
    copy = PromptCopy(request.prompt.tokens[:-1], self._claim(shard, self._pages_of_prompt(request)))
    self.copies[self.name_of(request, shard)] = copy
    return copy

  def _drop(self, name: Name) -> None:
    self._pages.give_back(name[0], self._idle[name[0]].pop(name).pages)
    del self.copies[name]

  def _idle_pages(self, shard: int) -> int:
    return sum(len(copy.pages) for copy in self._idle[shard].values())

  def _claim(self, shard: int, count: int) -> list[int]:
    """Takes pages of a shard; idle copies give way, the one of the last prompt first."""
    while self._pages.free(shard) < count and self._idle[shard]:
      self._drop(next(reversed(self._idle[shard])))
    return self._pages.take(shard, count)

  def _needed(self, request: Request, dispatches: int = 1) -> int:
    """Counts the pages that an answer needs for some more dispatches."""
    return pages_for(min(request.drawn + dispatches * self._steps, self._cap), self._pages.page)

  def _reserve(self, shard: int, left: int) -> int:
    """Counts the pages that a shard's answers need for the dispatch after the next.

    If `left` is enough for any answers, it does not count and returns 0.
    """
    most = 2 * pages_for(self._steps, self._pages.page) + 1
    if most * len(self.placed) <= left:
      return 0
    return sum(
      max(0, self._needed(request, 2) - len(has.pages)) for request, has in self.placed.items() if has.shard == shard
    )
