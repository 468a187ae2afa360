"""Tests a prefill's arrays against ones that are worked out by hand."""

import numpy as np

from posttrain_jax.sampling.chunk_lists import chunk_arrays
from posttrain_jax.sampling.chunk_plan import Chunk
from posttrain_jax.sampling.sizes import Layout

LAYOUT = Layout(shards=2, slots=3, rows=8, prompts=3, page=4, of_prompt=3, of_answer=5, pages=50, chunk=8, width=2)


def test_each_shard_has_its_rows_and_its_list():
  """Runs two chunks of a text on the first shard, and one of an answer after a prompt of 10 tokens on the second."""
  first = Chunk(range(8), 0, [4, 5], [])
  second = Chunk([8, 9, 10], 8, [6], [([4, 5], 8)])
  answer = Chunk([7], 18, [1], [([10, 11], 8), ([12], 2), ([2, 3], 8)])
  found = chunk_arrays([[first, second], [answer]], LAYOUT)
  np.testing.assert_array_equal(found.tokens[0], range(8))
  np.testing.assert_array_equal(found.tokens[1:], [[8, 9, 10, *[0] * 5], [7, *[0] * 7], [0] * 8])
  np.testing.assert_array_equal(found.counts, [8, 3, 1, 0])
  np.testing.assert_array_equal(found.starts, [0, 8, 18, 0])
  np.testing.assert_array_equal(found.written, [[4, 5], [6, 50], [1, 50], [50, 50]])  # 50 is out of range
  np.testing.assert_array_equal(found.count, [1, 3])
  # Two chunks of the longest prompt and three of the longest answer, before each of two rows.
  assert found.owners.shape == found.seen.shape == (2 * 2 * 5,) and found.earlier.shape == (20, 2)
  np.testing.assert_array_equal(found.owners[[0, 10, 11, 12]], [1, 0, 0, 0])
  np.testing.assert_array_equal(found.seen[[0, 10, 11, 12]], [8, 8, 2, 8])
  np.testing.assert_array_equal(found.earlier[[0, 10, 11, 12]], [[4, 5], [10, 11], [12, 0], [2, 3]])
