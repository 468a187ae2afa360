"""Tests the lists of a dispatch against pages that are worked out by hand."""

import numpy as np

from posttrain_jax.sampling.page_lists import Shape
from posttrain_jax.sampling.pages import Pages
from posttrain_jax.sampling.places import Places
from posttrain_jax.sampling.requests import Request
from posttrain_jax.types import Prompt

SHAPE = Shape(shards=2, slots=8, rows=3, share=2, page=4, steps=6, own=40, of_prompts=9)


def test_the_lists_name_each_owners_pages_in_order():
  """Places two answers to a prompt of 6 tokens on shard 0, and one to a prompt of one token on shard 1.

  The first has drawn 3 tokens. Six more fill places 3 to 8, so it has three pages.
  """
  places = Places(
    slots=4,
    slots_per_shard=8,
    rows=6,
    shards=2,
    share=2,
    pages=Pages(per_shard=20, shards=2, page=4),
    steps=6,
    cap=100,
  )
  long = [Request(Prompt(0, (1,) * 6, {}), sample) for sample in range(2)]
  long[0].tokens.append(np.arange(3, dtype=np.int32))
  for request in (*long, Request(Prompt(1, (1,), {}), 1)):
    assert places.take(request) is not None
    places.placed[request].begun = True
  late = Request(Prompt(2, (1, 2), {}), 0)
  places.take(late)  # it does not draw yet, so it reads nothing
  reads = SHAPE.reads(places)
  np.testing.assert_array_equal(reads.own.count, [5, 2])
  np.testing.assert_array_equal(reads.own.owners.reshape(2, 64)[:, :5], [[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]])
  np.testing.assert_array_equal(reads.own.numbers.reshape(2, 64)[:, :5], [[0, 1, 2, 0, 1], [0, 1, 0, 0, 0]])
  np.testing.assert_array_equal(reads.own.pages.reshape(2, 64)[:, :5], [[2, 3, 4, 5, 6], [0, 1, 0, 0, 0]])
  np.testing.assert_array_equal(reads.prompts.count, [2, 0])  # 5 tokens; the other prompt's token is the answer's first
  np.testing.assert_array_equal(reads.prompts.pages[:2], [0, 1])
  np.testing.assert_array_equal(reads.prompt_lengths, [5, 0, 0, 0, 0, 0])
  np.testing.assert_array_equal(reads.lanes.reshape(2, 8)[:, :2], [[0, 1], [1, 0]])
  np.testing.assert_array_equal(reads.readers.reshape(2, 6)[:, :2], [[0, 1], [0, 0]])
  np.testing.assert_array_equal(reads.first, np.zeros(16))
  np.testing.assert_array_equal(
    reads.written.reshape(2, 8, 3)[:, :2], [[[2, 3, 4], [5, 6, -1]], [[0, 1, -1], [-1, -1, -1]]]
  )


def test_writing_begins_at_the_page_of_the_newest_token():
  pages = Pages(per_shard=20, shards=1, page=4)
  places = Places(slots=1, slots_per_shard=8, rows=1, shards=1, share=1, pages=pages, steps=6, cap=11)
  request = Request(Prompt(0, (1, 2), {}), 0)
  request.tokens.append(np.arange(9, dtype=np.int32))
  places.take(request)
  assert places.pages_of(request) == (1, 2, 3)  # places 0 to 10: the cap is 11
  places.placed[request].begun = True
  reads = Shape(shards=1, slots=8, rows=1, share=1, page=4, steps=6, own=3, of_prompts=1).reads(places)
  assert reads.first[0] == 2 and reads.written[0].tolist() == [3, -1, -1]
