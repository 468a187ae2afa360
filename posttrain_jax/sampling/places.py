"""The engine's books on where answers run: which slot each has, and which row its prompt's keys and values lie in.

An answer's slot and its prompt's row are on the same device; a prompt whose answers run on several has a row on each.
"""

import collections
import dataclasses
import heapq

from posttrain_jax.sampling.requests import Request


@dataclasses.dataclass(frozen=True)
class Place:
  """Where an answer runs.

  Attributes:
    slot: its slot.
    row: the row of its prompt.
    lane: which of the row's lanes it reads through (`models.attention.Prefixes`), counted from its device's first row.
    fresh: whether the prompt still has to be copied into the row.
  """

  slot: int
  row: int
  lane: int
  fresh: bool


class Places:
  """Free and taken slots and rows. A sample's lane within a row is fixed, so that its bits cannot depend on it."""

  def __init__(self, *, slots: int, slots_per_shard: int, rows: int, shards: int, share: int):
    """Starts with all of them free.

    Args:
      slots: those that are used, as many on each device.
      slots_per_shard: how many lie on each device, with those that are not used.
      rows: P, for prompts; a multiple of the shards.
      shards: devices that slots and rows are split over.
      share: T, lanes of a row.
    """
    self.slots, self._share, self._rows_per_shard = slots, share, rows // shards
    first = lambda i, size, used: list(range(i * size, i * size + used))  # noqa: E731
    self._free_slots = [first(i, slots_per_shard, slots // shards) for i in range(shards)]  # heaps: always the lowest
    self._free_rows = [first(i, self._rows_per_shard, self._rows_per_shard) for i in range(shards)]
    self._there: dict[tuple, int] = {}  # (shard, group, samples // T) → row
    self._readers: collections.Counter[tuple] = collections.Counter()
    self._taken: dict[Request, tuple[int, tuple]] = {}  # slot and key of `_there`

  @property
  def free(self) -> int:
    """Slots that are free."""
    return self.slots - len(self._taken)

  def take(self, request: Request) -> Place | None:
    """A place for a request, beside others of its group if there is one; None if no slot, or no row, is free."""
    own = request.name, request.sample // self._share
    candidates = [shard for shard, slots in enumerate(self._free_slots) if slots]
    beside = [shard for shard in candidates if (shard, *own) in self._there]
    with_row = [shard for shard in candidates if self._free_rows[shard]]
    if not beside and not with_row:
      return None
    shard = beside[0] if beside else max(with_row, key=lambda each: len(self._free_slots[each]))
    key = (shard, *own)
    if not beside:
      self._there[key] = heapq.heappop(self._free_rows[shard])
    slot, row = heapq.heappop(self._free_slots[shard]), self._there[key]
    self._readers[key] += 1
    self._taken[request] = slot, key
    lane = row % self._rows_per_shard * self._share + request.sample % self._share
    return Place(slot, row, lane, fresh=not beside)

  def give_back(self, request: Request) -> None:
    """Frees a request's slot, and the row of its prompt if nobody else reads it."""
    slot, key = self._taken.pop(request)
    heapq.heappush(self._free_slots[key[0]], slot)
    self._readers[key] -= 1
    if not self._readers[key]:
      del self._readers[key]
      heapq.heappush(self._free_rows[key[0]], self._there.pop(key))
