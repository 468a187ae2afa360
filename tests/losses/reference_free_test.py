import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.losses import preference
from tests.losses.preference_example import FREE, assert_by_hand, log_sigmoid

BY_HAND = {
  "cpo": -log_sigmoid(2),  # .5 (−1 + 5)
  "simpo": -log_sigmoid(8.625),  # 2.5 · 4 − 1.375
  "orpo": 1 - 0.1 * log_sigmoid(-math.log(math.e - 1) + math.log(math.exp(5) - 1)),  # odds of e⁻ˣ: 1 / (eˣ − 1)
}


@pytest.mark.parametrize(("name", "expected"), BY_HAND.items())
def test_by_hand(name, expected, x64):
  assert_by_hand(name, expected)


def test_orpo_takes_another_nll_and_passes_its_gradient_on():
  chosen, rejected = np.float32([-0.5, -1.0]), np.float32([-1.0, -1.0])
  default = preference.orpo(chosen, rejected, weight=0.1)
  np.testing.assert_allclose(default[1], 1 + 0.1 * math.log(2), rtol=1e-6)
  loss, gradient = jax.value_and_grad(
    lambda nll: jnp.sum(preference.orpo(chosen, rejected, weight=0.1, chosen_nll=nll))
  )(3.0)
  np.testing.assert_allclose(loss, jnp.sum(default + chosen + 3), rtol=1e-6)
  assert gradient == 2


def test_orpo_is_finite_where_an_answer_is_certain():
  means = jnp.array([-1e-3, -1e-6, -1e-9, 0.0, -100.0])
  chosen, rejected = (x.ravel() for x in jnp.meshgrid(means, means))
  loss, gradients = jax.value_and_grad(lambda *x: jnp.sum(FREE["orpo"](*x)), argnums=(0, 1))(chosen, rejected)
  assert np.isfinite(loss) and np.isfinite(gradients).all()
  # A certain chosen answer has nothing left to gain, and a certain rejected one costs log(odds).
  np.testing.assert_allclose(FREE["orpo"](jnp.zeros(1), -jnp.ones(1)), [0], atol=1e-7)
  expected = math.log(2) - 0.1 * math.log(np.finfo(np.float32).eps)
  np.testing.assert_allclose(FREE["orpo"](jnp.full(1, -math.log(2)), jnp.zeros(1)), [expected], rtol=1e-6)


def test_orpo_odds_keep_their_digits_near_certainty():
  # odds = 1 / (eˣ − 1) for log p = −x; at x = 1e-5 the float32 1 − p alone would have two digits.
  loss = preference.orpo(np.float32([-2e-5]), np.float32([-1e-5]), weight=1.0, chosen_nll=0.0)
  np.testing.assert_allclose(loss, [math.log1p(math.expm1(2e-5) / math.expm1(1e-5))], rtol=1e-6)
