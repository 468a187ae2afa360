import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.losses import preference
from tests.losses.preference_example import LOSSES, RELATIVE, assert_by_hand, example, log_sigmoid, sigmoid

BY_HAND = {
  "dpo": -log_sigmoid(1.5),
  "cdpo": -0.9 * log_sigmoid(1.5) - 0.1 * log_sigmoid(-1.5),
  "robust": (-0.9 * log_sigmoid(1.5) + 0.1 * log_sigmoid(-1.5)) / 0.8,
  "dpop": -log_sigmoid(1.5),  # the chosen answer has gained: no penalty
  "ipo": 0.25,  # (3 − 1/.4)²
  "hinge": 0.0,  # 1 − 1.5 < 0
  "kto": 1.2 * sigmoid(-0.85) + sigmoid(-0.65),  # z = .3: β(2 − .3) = .85 and β(.3 + 1) = .65
}


@pytest.mark.parametrize(("name", "expected"), BY_HAND.items())
def test_by_hand(name, expected, x64):
  assert_by_hand(name, expected)


def test_no_movement_gives_the_known_constants():
  same = np.array([-2.0, -7.0], np.float32)
  for name, expected in {"dpo": math.log(2), "dpop": math.log(2), "hinge": 1.0, "ipo": 6.25}.items():
    np.testing.assert_allclose(LOSSES[name](same, same, same, same), [expected] * 2, rtol=1e-6)


def test_implicit_reward_by_hand():
  np.testing.assert_allclose(preference.implicit_reward(np.array([-1.0]), np.array([-3.0]), beta=0.5), [1.0])


def test_implicit_rewards_of_bfloat16_logprobs_are_subtracted_in_float32():
  # Exact in bfloat16; their difference, 1 − 2⁻¹⁰, would be rounded to 1.
  policy, reference = (jnp.full(1, x, jnp.bfloat16) for x in (-(2.0**-10), -1.0))
  assert preference.implicit_reward(policy, reference, beta=1.0) == 1 - 2**-10


def test_dpop_penalises_a_chosen_answer_that_lost():
  # u = −1, v = −3: Δ = 2, penalty 5 · 1, so the logit is .5 (2 − 5) = −1.5.
  loss = RELATIVE["dpop"](*(np.array([x], np.float32) for x in (-3.0, -5.0, -2.0, -2.0)))
  np.testing.assert_allclose(loss, [-log_sigmoid(-1.5)], rtol=1e-6)


def test_dpop_pushes_the_chosen_answer_up_harder_than_dpo():
  inputs = [np.array([x], np.float32) for x in (-3.0, -5.0, -2.0, -2.0)]
  dpo, dpop = (jax.grad(lambda x, f=RELATIVE[name]: jnp.sum(f(x, *inputs[1:])))(inputs[0]) for name in ("dpo", "dpop"))
  np.testing.assert_allclose(dpo, [-0.5 * sigmoid(-1.0)], rtol=1e-6)
  np.testing.assert_allclose(dpop, [-0.5 * 6 * sigmoid(1.5)], rtol=1e-6)


def test_cdpo_has_its_minimum_where_the_model_believes_the_labels_as_much_as_they_deserve():
  # σ(βΔ) = 1 − ε at Δ = log(.9 / .1) / β.
  gradient = jax.grad(lambda x: jnp.sum(preference.dpo(x, 0 * x, 0 * x, 0 * x, beta=0.5, label_smoothing=0.1)))
  np.testing.assert_allclose(gradient(jnp.array([2 * math.log(9)])), [0], atol=1e-7)


def test_robust_is_unbiased_under_flipped_labels(x64):
  chosen, rejected, *reference = example(dtype=np.float64)
  as_labelled = RELATIVE["robust"](chosen, rejected, *reference)
  flipped = RELATIVE["robust"](rejected, chosen, *reference[::-1])
  clean = RELATIVE["dpo"](chosen, rejected, *reference)
  np.testing.assert_allclose(0.9 * as_labelled + 0.1 * flipped, clean, rtol=1e-13)


def test_kto_floors_the_kl_and_takes_it_per_answer():
  policy, reference, desirable = np.float32([-1, -1]), np.float32([-3, -3]), np.array([True, False])
  call = functools.partial(preference.kto, policy, reference, desirable, beta=0.5, undesirable_weight=2.0)
  np.testing.assert_allclose(call(kl=-7.0), [sigmoid(-1), 2 * sigmoid(1)], rtol=1e-6)
  np.testing.assert_allclose(call(kl=np.float32([1, -7])), [sigmoid(-0.5), 2 * sigmoid(1)], rtol=1e-6)


def test_kto_has_no_gradient_into_the_kl():
  policy, _, reference, _ = example()
  desirable = np.array([True, False, True, False, True])
  assert jax.grad(lambda kl: jnp.sum(preference.kto(policy, reference, desirable, kl, beta=0.5)))(1.0) == 0
