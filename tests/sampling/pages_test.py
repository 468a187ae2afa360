"""Tests the record of free pages."""

import pytest

from posttrain_jax.sampling.pages import Pages, pages_for


def test_the_lowest_free_pages_of_a_shard_are_taken():
  pages = Pages(per_shard=4, shards=2, page=8)
  assert pages.take(1, 3) == [0, 1, 2] and (pages.free(0), pages.free(1), pages.in_use) == (4, 1, 3)
  pages.give_back(1, [1])
  assert pages.take(1, 2) == [1, 3] and pages.take(0, 1) == [0]
  with pytest.raises(ValueError, match="1 pages of shard 1, of which 0 are free"):
    pages.take(1, 1)


def test_a_page_that_is_not_full_counts():
  assert [pages_for(tokens, 8) for tokens in (0, 1, 8, 9)] == [0, 1, 1, 2]
