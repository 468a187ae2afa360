"""Assigns running requests to slots, and their prompts to rows of the device's memory.

The device holds two caches. Each slot has a row of its own for the keys and values of its answer. Prompts lie in the
rows of a second cache, the prefixes, where up to T answers of a group read them together. A request's slot and its
prompt's row are on the same device; a prompt whose answers run on several devices has a row on each.
"""

import collections
import dataclasses
import heapq

from posttrain_jax.sampling.requests import Request

# A prompt's copy in one row: (shard, group, sample // share). Samples of equal sample // share read the same copy.
_Copy = tuple[int, tuple[int, int], int]


@dataclasses.dataclass(frozen=True)
class Place:
  """Holds where one request runs: its slot, its prompt's row, and its lane.

  Attributes:
    slot: row of the slots' cache that the answer is written to.
    row: row of the prefixes that holds the prompt's keys and values.
    lane: T · (row, counted from the first row of its device) + sample mod T. The decode program finds the prompt of a
      slot by it (`models.attention.Prefixes.lanes`).
    fresh: True if the row does not hold the prompt yet, so that the prompt has to be copied into it.
  """

  slot: int
  row: int
  lane: int
  fresh: bool


class Places:
  """Tracks which slots and rows are free.

  A sample's lane within its row depends on the sample's number alone, so the bits of an answer cannot depend on it.
  """

  def __init__(self, *, slots: int, slots_per_shard: int, rows: int, shards: int, share: int):
    """Starts with all slots and rows free.

    Args:
      slots: slots that are used, equally many on each shard.
      slots_per_shard: rows of the slots' cache on each shard, those that are not used included.
      rows: P, rows of the prefixes; a multiple of `shards`.
      shards: groups of devices that slots and rows are split over.
      share: T, lanes of a row.
    """
    self._slots, self._share, self._rows_per_shard = slots, share, rows // shards
    first = lambda i, size, used: list(range(i * size, i * size + used))  # noqa: E731
    self._free_slots = [first(i, slots_per_shard, slots // shards) for i in range(shards)]  # heaps: always the lowest
    self._free_rows = [first(i, self._rows_per_shard, self._rows_per_shard) for i in range(shards)]
    self._row_of: dict[_Copy, int] = {}
    self._readers: collections.Counter[_Copy] = collections.Counter()
    self._taken: dict[Request, tuple[int, _Copy]] = {}  # slot and copy

  @property
  def free(self) -> int:
    """Counts the free slots."""
    return self._slots - len(self._taken)

  def take(self, request: Request) -> Place | None:
    """Assigns a place to a request.

    A shard that holds a copy of the prompt comes first, then the shard with a free row that has most free slots.

    Returns:
      the place; None if no slot is free that has a copy of the prompt, or a row for one, on its shard.
    """
    own = request.group, request.sample // self._share
    candidates = [shard for shard, slots in enumerate(self._free_slots) if slots]
    with_copy = [shard for shard in candidates if (shard, *own) in self._row_of]
    with_row = [shard for shard in candidates if self._free_rows[shard]]
    if not with_copy and not with_row:
      return None
    shard = with_copy[0] if with_copy else max(with_row, key=lambda each: len(self._free_slots[each]))
    copy = (shard, *own)
    if not with_copy:
      self._row_of[copy] = heapq.heappop(self._free_rows[shard])
    slot, row = heapq.heappop(self._free_slots[shard]), self._row_of[copy]
    self._readers[copy] += 1
    self._taken[request] = slot, copy
    lane = row % self._rows_per_shard * self._share + request.sample % self._share
    return Place(slot, row, lane, fresh=not with_copy)

  def give_back(self, request: Request) -> None:
    """Frees a request's slot, and its prompt's row if no other request reads it."""
    slot, copy = self._taken.pop(request)
    shard = copy[0]
    heapq.heappush(self._free_slots[shard], slot)
    self._readers[copy] -= 1
    if not self._readers[copy]:
      del self._readers[copy]
      heapq.heappush(self._free_rows[shard], self._row_of.pop(copy))
