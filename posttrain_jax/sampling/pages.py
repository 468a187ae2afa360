"""Tracks which pages of the caches are free.

A page holds the keys and values of `PAGE` consecutive tokens of one answer or of one prompt. No two texts share a
page, so the last page of each is padded: half a page on average, and 22 of 32 tokens for a prompt of 10. Padding takes
memory, and a decode step reads it with the page. A step reads a prompt once for up to T answers, so short prompts cost
little. `EngineStats` counts both: `most_live_tokens` without padding, `most_paged_tokens` with it.
"""

import heapq

# Tokens. Smaller pages waste less of their last page; larger ones need fewer steps of the loop that reads them. Of 16,
# 32, 64 and 128 tokens, 32 is fastest on CPU for answers of mean length 64.
PAGE = 32


def pages_for(tokens: int, page: int) -> int:
  """Returns how many pages hold some tokens."""
  return -(-tokens // page)


class Pages:
  """Tracks the free pages of each shard.

  Pages are numbered on their shard, and the lowest one is taken first.

  Attributes:
    per_shard: n, pages of each shard.
    page: tokens of a page.
  """

  def __init__(self, *, per_shard: int, shards: int, page: int):
    """Starts with all pages free.

    Args:
      per_shard: n, pages of each shard.
      shards: groups of devices that the pages are split over.
      page: tokens of a page.
    """
    self.per_shard, self.page = per_shard, page
    self._free = [list(range(per_shard)) for _ in range(shards)]  # heaps

  @property
  def in_use(self) -> int:
    """Counts the pages in use on all shards."""
    return sum(self.per_shard - len(free) for free in self._free)

  def free(self, shard: int) -> int:
    """Counts the free pages of a shard."""
    return len(self._free[shard])

  def take(self, shard: int, count: int) -> list[int]:
    """Takes free pages of a shard.

    Raises:
      ValueError: if fewer are free.
    """
    free = self._free[shard]
    if count > len(free):
      raise ValueError(f"{count} pages of shard {shard}, of which {len(free)} are free")
    return [heapq.heappop(free) for _ in range(count)]

  def give_back(self, shard: int, pages: list[int]) -> None:
    """Frees pages of a shard."""
    for page in pages:
      heapq.heappush(self._free[shard], page)
