"""Tests the TPU kernels, interpreted on a CPU, against plain masked attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.models.tile_kernels import attend_tiles
from posttrain_jax.models.tile_plan import plan_tiles
from tests.models.tiles_test import expected, spans, value_and_gradient


@pytest.mark.parametrize("tile", [16])
def test_values_and_gradients_are_those_of_masked_attention(tile):
  given = jax.tree.map(jnp.asarray, spans())
  plan = plan_tiles(given, tile)
  found = value_and_gradient(lambda *inputs: attend_tiles(*inputs, given, plan, tile, True), jnp.float32)
  for one, other in zip(found, expected()):
    np.testing.assert_allclose(one, other, atol=2e-5)
