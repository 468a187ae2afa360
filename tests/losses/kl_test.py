import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from posttrain_jax.losses import kl

ESTIMATORS = ["k1", "k2", "k3", "k3+"]


def test_by_hand():
  # d = log 2 and log 1/2: k3 = 1/2 − 1 + log 2 and 2 − 1 − log 2.
  learner, reference = np.log(np.array([[0.5, 0.25]])), np.log(np.array([[0.25, 0.5]]))
  log2 = math.log(2)
  expected = {"k1": [log2, -log2], "k2": [log2**2 / 2] * 2, "k3": [log2 - 0.5, 1 - log2], "k3+": [log2 - 0.5, 1 - log2]}
  for estimator, values in expected.items():
    np.testing.assert_allclose(kl.kl_estimate(learner, reference, estimator=estimator), [values], rtol=1e-5)


def test_gradients(x64):
  learner, reference = np.log(np.array([[0.5, 0.25, 0.3]])), np.log(np.array([[0.25, 0.5, 0.3]]))
  d = learner - reference
  expected = {"k1": np.ones_like(d), "k2": d, "k3": 1 - np.exp(-d), "k3+": d}
  for estimator, gradient in expected.items():
    for by in (0, 1):
      actual = jax.grad(lambda *x, e=estimator: jnp.sum(kl.kl_estimate(*x, estimator=e)), by)(learner, reference)
      np.testing.assert_allclose(actual, gradient if by == 0 else np.zeros_like(d), atol=1e-15)
  for estimator in ("k1", "k2", "k3"):  # k3+ is no function's gradient
    check_grads(lambda x, e=estimator: kl.kl_estimate(x, reference, estimator=e), (learner,), order=1, modes=["rev"])


def test_far_from_the_reference_a_token_is_pulled_back_and_no_more():
  # Learner and reference at both ends of what a logprob can be, and at the ends of the formulas' range.
  edges = [-math.log(11.0), -10.0, 10.0]
  reference = np.array([-1.0, -30.0, -95.0, -1e4, 0.0], np.float32)
  for learner in [*(edge + nudge for edge in edges for nudge in (-1e-3, 0, 1e-3)), -1.0, -3.0, -30.0, -95.0, -1e30]:
    learner = np.full_like(reference, learner)
    for estimator in ("k2", "k3", "k3+"):
      value, gradient = jax.vmap(jax.value_and_grad(lambda x, y, e=estimator: kl.kl_estimate(x, y, estimator=e)))(
        learner, reference
      )
      d = learner - reference
      assert np.all(np.isfinite(value)) and np.all(value >= 0)
      assert np.all(np.abs(gradient) <= 10.0001) and np.all((gradient == 0) == (d == 0))
      assert np.all(np.sign(gradient) == np.sign(d))


@pytest.mark.parametrize("estimator", ["k2", "k3", "k3+"])
def test_the_bound_makes_no_step_and_changes_nothing_before_it(estimator, x64):
  by = lambda d: kl.kl_estimate(d, jnp.zeros_like(d), estimator=estimator)  # noqa: E731
  slope = jax.vmap(jax.grad(lambda d: by(d)))
  for edge in (-math.log(11.0), -10.0, 10.0):
    around = edge + np.array([-1e-9, 1e-9])
    np.testing.assert_allclose(*by(around), rtol=1e-7)
    np.testing.assert_allclose(*slope(around), rtol=1e-7)
  # The same bits as the formulas, in value and gradient.
  d = np.linspace(-2.3, 9.9, 1001)
  value, gradient = {
    "k2": (jnp.square(d) / 2, d),
    "k3": (jnp.expm1(-d) + d, None),
    "k3+": (jnp.expm1(-d) + d - jnp.square(d) / 2 + jnp.square(d) / 2, d),
  }[estimator]
  np.testing.assert_array_equal(by(d), value)
  plain = jax.vmap(jax.grad(lambda d: jnp.expm1(-d) + d))(d) if gradient is None else gradient
  np.testing.assert_array_equal(slope(d), plain)


def test_one_broken_token_does_not_fill_an_update():
  # Nine tokens a nat below the reference, one 94 nats below: without the bound its share is all, and infinite.
  learner = np.array([-2.0] * 9 + [-95.0], np.float32)
  gradient = jax.grad(lambda x: jnp.mean(kl.kl_estimate(x, jnp.full_like(x, -1.0), estimator="k3")))(learner)
  assert abs(gradient[-1]) < abs(gradient[:-1].sum())


def test_expectations_under_the_learner_are_the_kl(x64):
  rng = np.random.default_rng(0)
  learner, reference = (jax.nn.log_softmax(rng.normal(size=(1, 50)) / 2) for _ in range(2))
  divergence = jnp.sum(jnp.exp(learner) * (learner - reference))
  for estimator in ("k1", "k3"):
    estimate = kl.kl_estimate(learner, reference, estimator=estimator)
    np.testing.assert_allclose(jnp.sum(jnp.exp(learner) * estimate), divergence, rtol=1e-12)


def test_k3_keeps_its_precision_near_zero():
  # d²/2 = 5e-13 is far below float32's 6e-8 around 1: 1 − 1 would leave rounding noise.
  learner = jnp.full((1, 1), -1e-6)
  np.testing.assert_allclose(kl.kl_estimate(learner, jnp.zeros((1, 1)), estimator="k3"), [[5e-13]], atol=1e-12)
  assert kl.kl_estimate(jnp.zeros((1, 1)), jnp.zeros((1, 1)), estimator="k3") == 0


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_masked_positions(estimator):
  mask = np.array([[1.0, 0.0, 1.0]])
  learner, reference = np.array([[-1.0, -2, -3]], np.float32), np.array([[-1.5, -1, -2]], np.float32)
  plain = kl.kl_estimate(learner, reference, estimator=estimator)
  for bad in (np.nan, np.inf, -np.inf, 1e38):
    bad_learner, bad_reference = np.where(mask, learner, bad), np.where(mask, reference, -bad)

    def total(x, reference=bad_reference):
      return jnp.sum(kl.kl_estimate(x, reference, estimator=estimator, mask=mask))

    estimate = kl.kl_estimate(bad_learner, bad_reference, estimator=estimator, mask=mask)
    np.testing.assert_array_equal(estimate, np.where(mask, plain, 0))
    gradient = jax.grad(total)(bad_learner)
    assert np.all(np.isfinite(gradient)) and gradient[0, 1] == 0


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_jit_dtypes_and_shapes(estimator):
  rng = np.random.default_rng(0)
  learner, reference = rng.normal(size=(2, 2, 3, 4)).astype(np.float32)
  expected = kl.kl_estimate(learner, reference, estimator=estimator)
  jitted = jax.jit(lambda *x: kl.kl_estimate(*x, estimator=estimator))
  np.testing.assert_allclose(jitted(learner, reference), expected, rtol=1e-5, atol=1e-7)
  low = jnp.asarray(learner, jnp.bfloat16), jnp.asarray(reference, jnp.bfloat16)
  high = (x.astype(jnp.float32) for x in low)
  assert jitted(*low).dtype == jnp.float32
  np.testing.assert_allclose(jitted(*low), jitted(*high), rtol=1e-6)
  with pytest.raises(AssertionError):
    kl.kl_estimate(learner, reference[:1], estimator=estimator)


def test_names_a_bad_estimator():
  with pytest.raises(ValueError, match=r"estimator: expected .* found 'k4'"):
    kl.kl_estimate(np.zeros(1), np.zeros(1), estimator="k4")


def test_adaptive_coefficient_by_hand():
  # Off by 10 %, 200 of 1000 answers: 1 + .1 · .2. Off by more than 20 % counts as 20 %.
  step = functools.partial(kl.adaptive_coefficient, 0.5, target=6.0, horizon=1000, samples=200)
  for measured, factor in {6.0: 1.0, 6.6: 1.02, 5.4: 0.98, 60.0: 1.04, 0.0: 0.96, -5.0: 0.96}.items():
    np.testing.assert_allclose(step(measured), 0.5 * factor, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(step)(measured), 0.5 * factor, rtol=1e-6)
  assert step(6.0).dtype == jnp.float32 and step(6.0).shape == ()


def test_adaptive_coefficient_brings_the_kl_to_its_target():
  # A policy whose KL is 1 / β.
  step = jax.jit(functools.partial(kl.adaptive_coefficient, target=5.0, horizon=10_000, samples=1000))
  coefficient = jnp.float32(3.0)
  for _ in range(300):
    coefficient = step(coefficient, 1 / coefficient)
  np.testing.assert_allclose(1 / coefficient, 5.0, rtol=1e-4)
