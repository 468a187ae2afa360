"""Tests that all pairs of tiles whose tokens see each other are planned, once, and few others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.models.tile_plan import list_pairs, plan_tiles
from tests.models.tiles_test import LENGTH, allowed, spans


@pytest.mark.parametrize("tile", [8, 16, 64])
def test_the_plan_has_every_pair_of_tiles_that_see_each_other_once(tile):
  given = spans()
  plan = jax.tree.map(np.asarray, plan_tiles(jax.tree.map(jnp.asarray, given), tile))
  tiles = LENGTH // tile
  seen = allowed(given).reshape(2, tiles, tile, tiles, tile).any((2, 4))
  counts = np.zeros(2 * tiles, int)
  counts[plan.order] = plan.counts
  assert (np.diff(plan.counts) <= 0).all() and sorted(plan.order) == list(range(2 * tiles))
  listed = np.zeros((2, tiles, tiles), int)
  for query in range(2 * tiles):
    own = plan.first[query] + np.arange(plan.length[query])
    behind = plan.prefix[query] + np.arange(counts[query] - plan.length[query])
    for key in [*own, *behind]:
      assert key // tiles == query // tiles  # of the same row
      listed[query // tiles, query % tiles, key % tiles] += 1
  assert listed.max() == 1 and (listed[seen] == 1).all()
  # Few others: the last tile of a row may be in a range for another answer's sake.
  assert listed.sum() <= 1.4 * seen.sum()


def test_the_cost_follows_the_tokens():
  lengths = [100] * 9
  many = spans([([10], [lengths])], 1024)
  plan = plan_tiles(jax.tree.map(jnp.asarray, many), 32)
  assert int(plan.counts.sum()) < 0.25 * 32**2  # of all pairs of the row's tiles


@pytest.mark.parametrize("tile", [8, 32])
def test_every_pair_of_tiles_that_see_each_other_is_listed_once_in_order(tile):
  plan, tiles = plan_tiles(jax.tree.map(jnp.asarray, spans()), tile), LENGTH // tile
  queries, keys, number = map(np.asarray, list_pairs(plan, tiles))
  assert (queries[number:] == -1).all() and (keys[number:] == 2 * tiles).all() and len(queries) > number
  queries, keys = queries[:number], keys[:number]
  assert (np.diff(queries) >= 0).all() and set(queries) == set(keys) == set(range(2 * tiles))
  assert len(set(zip(queries, keys))) == number
  seen = allowed(spans()).reshape(2, tiles, tile, tiles, tile).any((2, 4))
  wanted = {(r * tiles + q, r * tiles + k) for r, q, k in np.argwhere(seen)}
  assert wanted <= set(zip(queries, keys))
