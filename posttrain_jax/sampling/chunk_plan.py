"""Chooses the chunks of the next prefill.

Prompts of answers that have a slot come first, in the order in which they got it, and a resumed answer's own tokens
after its prompt's. If rows are left over, the prompts of the answers that are next in line are prefilled ahead.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from posttrain_jax.sampling.places import Name, Placed, Places, PromptCopy
from posttrain_jax.sampling.requests import GroupName, Request


@dataclasses.dataclass(frozen=True)
class Chunk:
  """Holds one chunk of a prompt or of a resumed answer. Pages count on its shard.

  Attributes:
    tokens: its tokens.
    start: position of the first one in prompt and answer.
    written: pages for its keys and values.
    earlier: pages and number of tokens of each chunk before it, in the order of the text.
  """

  tokens: Sequence[int]
  start: int
  written: list[int]
  earlier: list[tuple[list[int], int]]


class ChunkPlan:
  """Collects the chunks of one prefill, which writes their keys and values.

  A chunk may attend to earlier ones of the same prefill.

  Attributes:
    chunks: of each shard.
    prompt_tokens: tokens of prompts in them.
    answer_tokens: tokens of resumed answers in them.
  """

  def __init__(self, places: Places, waiting: Iterator[Request], *, chunk: int, width: int, page: int):
    """Chooses the chunks, and notes in `places` that they are filled.

    Args:
      places: who has which pages.
      waiting: the requests without a slot, in the order in which they get one.
      chunk: C, tokens of a chunk.
      width: most chunks of a shard.
      page: tokens of a page.
    """
    self._places, self._chunk, self._width, self._page = places, chunk, width, page
    self.chunks: list[list[Chunk]] = [[] for _ in range(places.shards)]
    self.prompt_tokens = self.answer_tokens = 0
    first = furthest_copies(places)
    for request, has in places.placed.items():
      if not has.begun and any(map(self._room, range(places.shards))):
        self._add_prompt(*first[request.group])
        self._add_answer(request, has)
    if self:
      self._look_ahead(waiting, first)

  def __bool__(self) -> bool:
    """Says whether there are any chunks."""
    return any(self.chunks)

  def _room(self, shard: int) -> int:
    return self._width - len(self.chunks[shard])

  def _look_ahead(self, waiting: Iterator[Request], first: dict[GroupName, tuple[Name, PromptCopy]]) -> None:
    for name, copy in list(first.values()):
      if not copy.readers:
        self._add_prompt(name, copy)
    made = 0
    for request in waiting:
      shard = max(range(self._places.shards), key=self._room)
      if made == self._width or not self._room(shard):
        break
      if request.group not in first:
        if not self._places.take_ahead(request, shard):
          break
        name = self._places.name_of(request, shard)
        first[request.group] = name, self._places.copies[name]
        self._add_prompt(*first[request.group])
        made += 1

  def _add_prompt(self, name: Name, copy: PromptCopy) -> None:
    before = copy.filled
    copy.filled = self._add(name[0], copy.tokens, 0, copy.pages, copy.filled, [])
    self.prompt_tokens += copy.filled - before

  def _add_answer(self, request: Request, has: Placed) -> None:
    copy, before = self._places.copies[has.copy], has.filled
    if copy.complete and has.filled < request.drawn:
      # The prompt's last token is the first in the answer's pages; the newest token is not in the cache.
      own = request.sequence[len(copy.tokens) : -1]
      prompt = self._cut(copy.pages, len(copy.tokens))
      has.filled = self._add(has.shard, own, len(copy.tokens), has.pages, has.filled, prompt)
      self.answer_tokens += has.filled - before

  def _add(
    self,
    shard: int,
    tokens: Sequence[int],
    start: int,
    pages: list[int],
    filled: int,
    before: list[tuple[list[int], int]],
  ) -> int:
    """Adds chunks of a sequence while there is room; returns its filled tokens."""
    while filled < len(tokens) and self._room(shard):
      end = min(filled + self._chunk, len(tokens))
      (written, _) = self._cut(pages, end)[-1]
      earlier = before + self._cut(pages, filled)
      self.chunks[shard].append(Chunk(tokens[filled:end], start + filled, written, earlier))
      filled = end
    return filled

  def _cut(self, pages: list[int], tokens: int) -> list[tuple[list[int], int]]:
    """Cuts the pages of a sequence's first tokens into chunks, each with its number of tokens."""
    each = self._chunk // self._page
    count = -(-tokens // self._page)
    return [
      (pages[at : min(at + each, count)], min(self._chunk, tokens - at * self._page)) for at in range(0, count, each)
    ]


def furthest_copies(places: Places) -> dict[GroupName, tuple[Name, PromptCopy]]:
  """Finds the copy of each group's prompt that has most tokens filled.

  Only this one is prefilled. Others of its group get its pages copied when it is complete.
  """
  found: dict[GroupName, tuple[Name, PromptCopy]] = {}
  for name, copy in places.copies.items():
    if name[1] not in found or copy.filled > found[name[1]][1].filled:
      found[name[1]] = name, copy
  return found
