"""Tests the TPU kernels, interpreted on a CPU, against plain masked attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.models.tile_kernels import attend_tiles, list_pairs
from posttrain_jax.models.tiles import plan_tiles
from tests.models.tiles_test import LENGTH, allowed, expected, spans, value_and_gradient


@pytest.mark.parametrize("tile", [16])
def test_values_and_gradients_are_those_of_masked_attention(tile):
  given = jax.tree.map(jnp.asarray, spans())
  plan = plan_tiles(given, tile)
  found = value_and_gradient(lambda *inputs: attend_tiles(*inputs, given, plan, tile, True), jnp.float32)
  for one, other in zip(found, expected()):
    np.testing.assert_allclose(one, other, atol=2e-5)


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
