import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.losses import preference
from tests.losses.preference_example import LOSSES, RELATIVE, assert_by_hand, example, log_sigmoid, sigmoid

BY_HAND = {
  "sppo": 1.0,  # (2 − 1)² + (−1 + 1)²
  "exo": sigmoid(1.5) * (log_sigmoid(1.5) - math.log(0.9)) + sigmoid(-1.5) * (log_sigmoid(-1.5) - math.log(0.1)),
  "nca": -log_sigmoid(1) - log_sigmoid(-1) / 2 - log_sigmoid(0.5) / 2,
  "aot": -0.9 * log_sigmoid(1.5) - 0.1 * log_sigmoid(-1.5),  # one pair: nothing to sort
  "aot_unpaired": -0.9 * log_sigmoid(1.5) - 0.1 * log_sigmoid(-1.5),
  "apo_zero": sigmoid(-1) + sigmoid(-0.5),
  "apo_down": sigmoid(1) + sigmoid(-1.5),
  "discopop": -sigmoid(-7.5) * log_sigmoid(1.5) + sigmoid(7.5) * math.exp(-1.5),
}


@pytest.mark.parametrize(("name", "expected"), BY_HAND.items())
def test_by_hand(name, expected, x64):
  assert_by_hand(name, expected)


def test_apo_zero_without_movement_is_one():
  same = np.array([-2.0, -7.0], np.float32)
  np.testing.assert_allclose(LOSSES["apo_zero"](same, same, same, same), [1.0] * 2, rtol=1e-6)


def test_exo_is_a_divergence_that_vanishes_at_the_soft_label():
  loss, gradient = jax.value_and_grad(lambda x: jnp.sum(RELATIVE["exo"](x, 0 * x, 0 * x, 0 * x)))(
    jnp.array([2 * math.log(9)])
  )
  np.testing.assert_allclose([loss, gradient[0]], [0, 0], atol=1e-6)


def test_aot_compares_sorted_margins():
  # Margins of the policy: 3, 1, 2; of the reference: 0, 2, 1. Sorted: 1, 2, 3 against 0, 1, 2, so every entry is 1.
  zero, policy, reference = np.zeros(3, np.float32), np.float32([3, 1, 2]), np.float32([0, 2, 1])
  expected = np.full(3, -log_sigmoid(0.5))
  np.testing.assert_allclose(preference.aot(policy, zero, reference, zero, beta=0.5), expected, rtol=1e-6)
  # Unpaired it is the rewards that are sorted: chosen 3, −1, 1 → −1, 1, 3; rejected 2, 0, −2 → −2, 0, 2.
  loss = preference.aot_unpaired(policy, np.float32([2, 0, -2]), reference, zero, beta=0.5)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_discopop_has_a_local_minimum_left_of_zero():
  x = np.array([-1.0, -0.11, -0.02, 1.0], np.float32)
  loss = preference.discopop(x, 0 * x, 0 * x, 0 * x, beta=1.0)
  assert loss[1] < loss[2] < loss[0] and loss[3] < loss[1]


@pytest.mark.parametrize("name", ["aot", "aot_unpaired"])
def test_sorting_losses_refuse_a_second_axis(name):
  with pytest.raises(AssertionError):
    LOSSES[name](*(x.reshape(5, 1) for x in example()))
