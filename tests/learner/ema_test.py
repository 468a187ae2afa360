"""Tests the average's arithmetic, that it keeps the layout, and that it frees its old buffers."""

import jax
import jax.numpy as jnp
import numpy as np

from posttrain_jax.learner.ema import make_average


def test_by_hand_and_in_place():
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  take_in = make_average(0.75, {"w": device})
  start = average = {"w": jnp.array([0.0, 4.0])}
  for new in (8.0, 0.0):
    average = take_in(average, {"w": jnp.array([new, 4.0])})
  # 0 -> .25 * 8 = 2 -> .75 * 2 = 1.5; what does not move stays exactly where it is.
  np.testing.assert_array_equal(average["w"], [1.5, 4.0])
  assert start["w"].is_deleted()
