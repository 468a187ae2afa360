"""Tests which chunks a prefill takes, without a device."""

import numpy as np

from posttrain_jax.sampling.chunk_plan import Chunk, ChunkPlan, furthest_copies
from posttrain_jax.sampling.pages import Pages
from posttrain_jax.sampling.places import Places
from posttrain_jax.sampling.requests import Request
from posttrain_jax.types import Prompt


def request(index, length, *, sample=0, drawn=0):
  made = Request(Prompt(index, tuple(range(100 * index, 100 * index + length)), {}), sample)
  made.tokens.append(np.arange(1000, 1000 + drawn, dtype=np.int32))
  return made


def new_places(*, shards=1, share=2, per_shard=100):
  pages = Pages(per_shard=per_shard, shards=shards, page=4)
  return Places(slots=6, slots_per_shard=8, rows=6, shards=shards, share=share, pages=pages, steps=4, cap=40)


def plan(places, waiting=(), width=3):
  return ChunkPlan(places, iter(waiting), chunk=8, width=width, page=4)


def test_a_long_prompt_takes_several_prefills_and_a_short_one_fills_up_the_last():
  """Prompts of 30 and 5 tokens leave their last ones to decoding: chunks of 8, 8, 8, 5 and 4 tokens."""
  places = new_places()
  places.take(request(0, 30)), places.take(request(1, 5))
  long, short = places.copies.values()
  first = plan(places)
  assert [len(chunk.tokens) for chunk in first.chunks[0]] == [8, 8, 8] and first.prompt_tokens == 24
  assert first.chunks[0][0] == Chunk(tuple(range(8)), 0, long.pages[:2], [])
  assert first.chunks[0][2] == Chunk(
    tuple(range(16, 24)), 16, long.pages[4:6], [(long.pages[:2], 8), (long.pages[2:4], 8)]
  )
  assert (long.complete, short.complete, short.filled) == (False, False, 0)
  second = plan(places)
  assert [(list(chunk.tokens), chunk.start, len(chunk.earlier)) for chunk in second.chunks[0]] == [
    ([24, 25, 26, 27, 28], 24, 3),
    ([100, 101, 102, 103], 0, 0),
  ]
  assert second.chunks[0][1].written == short.pages and len(short.pages) == 1
  assert long.complete and short.complete and not plan(places)


def test_a_resumed_answer_follows_its_prompt_and_sees_the_prompts_real_tokens():
  """A prompt of 6 tokens has 5 in its pages; the answer's pages hold the last one and 9 of 10 drawn tokens."""
  places = new_places()
  placed = request(0, 6, drawn=10)
  places.take(placed)
  (copy,), has = places.copies.values(), places.placed[placed]
  found = plan(places)
  prompt, first, second = found.chunks[0]
  assert list(prompt.tokens) == [0, 1, 2, 3, 4]
  assert (list(first.tokens), first.start) == ([5, *range(1000, 1007)], 5)
  assert first.earlier == [(copy.pages, 5)] and first.written == has.pages[:2]
  assert (list(second.tokens), second.start, second.written) == ([1007, 1008], 13, has.pages[2:3])
  assert second.earlier == [(copy.pages, 5), (has.pages[:2], 8)]
  assert (found.prompt_tokens, found.answer_tokens, has.filled) == (5, 10, 10) and not plan(places)


def test_one_copy_of_a_group_is_prefilled_and_the_others_wait_for_it():
  places = new_places(shards=2)
  for sample in (0, 1, 2):  # the third reads a copy of its own
    places.take(request(0, 6, sample=sample))
  assert len(places.copies) == 2
  found = plan(places)
  assert [len(chunks) for chunks in found.chunks] == [1, 0]
  ((_, first),) = furthest_copies(places).values()
  assert first.complete and not plan(places)


def test_what_begins_to_draw_needs_nothing():
  places = new_places()
  placed = request(0, 6)
  places.take(placed)
  places.placed[placed].begun = True
  assert not plan(places, [request(1, 6)])


def test_rows_left_over_go_to_the_prompts_next_in_line():
  """Of four rows, the running prompt takes one. The next prompts take one and two; the last one is cut."""
  places = new_places()
  places.take(request(0, 6))
  waiting = [request(0, 6, sample=1), request(1, 6), request(1, 6, sample=1), request(2, 30), request(3, 6)]
  found = plan(places, waiting, width=4)
  assert [chunk.tokens[0] for chunk in found.chunks[0]] == [0, 100, 200, 208]
  assert [(name[1][0], copy.filled) for name, copy in places.copies.items()] == [(0, 5), (1, 5), (2, 16)]
  places.take(request(4, 6))
  more = plan(places, waiting, width=4)
  assert [chunk.tokens[0] for chunk in more.chunks[0]] == [400, 216, 224, 300]  # a prompt that was begun goes on


def test_ahead_takes_no_pages_that_are_needed():
  places = new_places(per_shard=5)
  places.take(request(0, 6))
  assert len(plan(places, [request(1, 9)]).chunks[0]) == 1 and len(places.copies) == 1


def test_the_queue_is_looked_at_only_as_far_as_there_is_room():
  places = new_places()
  places.take(request(0, 6))
  looked = iter([request(index, 6) for index in range(1, 50)])
  plan(places, looked, width=4)
  assert next(looked).prompt.index == 5  # three were taken, and one was looked at
