"""Makes the lists by which a dispatch finds the pages that it reads and writes."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from posttrain_jax.models.paged_attention import LIST_UNIT, PageList, Reads
from posttrain_jax.sampling.pages import pages_for
from posttrain_jax.sampling.places import Places


@dataclasses.dataclass(frozen=True)
class Shape:
  """Holds the sizes that fix the lists' shapes, each for one of the D shards.

  Attributes:
    shards: D.
    slots: rows of the slots' state.
    rows: rows of prompts.
    share: T, lanes of a row.
    page: tokens of a page.
    steps: most tokens that a dispatch draws in a slot.
    own: most pages of answers.
    of_prompts: most pages of prompts.
  """

  shards: int
  slots: int
  rows: int
  share: int
  page: int
  steps: int
  own: int
  of_prompts: int

  def reads(self, places: Places) -> Reads:
    """Lists the pages for the next dispatch, int32 arrays on the host, as `Reads` describes them."""
    lanes, first = np.zeros((2, self.shards, self.slots), np.int32)
    written = np.full((self.shards, self.slots, (self.steps - 1) // self.page + 2), -1, np.int32)
    readers = np.zeros((self.shards, self.rows * self.share), np.int32)
    lengths = np.zeros((self.shards, self.rows), np.int32)
    own: list[list[tuple[int, list[int]]]] = [[] for _ in range(self.shards)]
    of_prompts: list[list[tuple[int, list[int]]]] = [[] for _ in range(self.shards)]
    read = set()
    for request, has in places.placed.items():
      if not has.begun:
        continue
      read.add(has.copy)
      begin = request.drawn // self.page
      lanes[has.shard, has.slot], first[has.shard, has.slot] = has.lane, begin
      pages = has.pages[begin:]
      written[has.shard, has.slot, : len(pages)] = pages
      readers[has.shard, has.lane] = has.slot
      own[has.shard].append((has.slot, has.pages))
    for name in read:
      copy = places.copies[name]
      lengths[name[0], copy.row] = len(copy.tokens)
      of_prompts[name[0]].append((copy.row, copy.pages))
    return Reads(
      own=_page_list(own, self.own),
      prompts=_page_list(of_prompts, self.of_prompts),
      prompt_lengths=lengths.ravel(),
      readers=readers.ravel(),
      lanes=lanes.ravel(),
      written=written.reshape(self.shards * self.slots, -1),
      first=first.ravel(),
    )


def _page_list(owners: Sequence[Iterable[tuple[int, list[int]]]], most: int) -> PageList:
  """Makes the list of all shards from each owner's pages.

  Args:
    owners: for each shard, (owner, its pages in the order of its text).
    most: most pages of a shard.
  """
  length = LIST_UNIT * max(1, pages_for(most, LIST_UNIT))
  found = np.zeros((3, len(owners), length), np.int32)
  counts = np.zeros(len(owners), np.int32)
  for shard, each in enumerate(owners):
    parts = [
      (np.full(len(pages), owner, np.int32), np.array(pages, np.int32), np.arange(len(pages), dtype=np.int32))
      for owner, pages in sorted(each)
    ]
    if parts:
      joined = np.concatenate([np.stack(part) for part in parts], axis=1)
      counts[shard] = joined.shape[1]
      found[:, shard, : counts[shard]] = joined
  owner, page, number = found.reshape(3, -1)
  return PageList(owners=owner, pages=page, numbers=number, count=counts)
