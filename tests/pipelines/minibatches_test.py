"""Tests that an epoch has every prompt once, in an order that depends on seed and step alone."""

import numpy as np

from posttrain_jax.pipelines.ppo import epoch_orders


def test_every_epoch_has_every_prompt_once_in_another_order():
  orders = epoch_orders(64, epochs=3, seed=5, step=7)
  for order in orders:
    np.testing.assert_array_equal(np.sort(order), np.arange(64))
  assert len({tuple(order) for order in orders}) == 3


def test_the_order_depends_on_seed_and_step_alone():
  first = epoch_orders(64, epochs=2, seed=5, step=7)
  np.testing.assert_array_equal(first, epoch_orders(64, epochs=2, seed=5, step=7))
  assert not np.array_equal(first, epoch_orders(64, epochs=2, seed=5, step=8))
  assert not np.array_equal(first, epoch_orders(64, epochs=2, seed=6, step=7))
