"""Tests the properties of all estimators of `losses.advantages`.

What each estimator computes is tested in the file of its own name.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.losses import advantages
from posttrain_jax.pipelines.advantages import Estimator
from posttrain_jax.types import InputError

P, G, T = 3, 4, 5
OPTIONS = {
  "distillation": {},
  "reinforce_plus_plus": {"kl_coefficient": 0.1},
}
NO_ESTIMATORS = {"gae", "informative_groups", "length_adaptive_lambda", "whiten"}


def public():
  return {name: f for name, f in vars(advantages).items() if inspect.isfunction(f)}


def arrays(seed=0):
  rng = np.random.default_rng(seed)
  lengths = rng.integers(1, T + 1, (P, G))
  valid = np.ones((P, G), bool)
  valid[0, 1] = valid[2, 3] = False
  logprobs = {
    f"{whose}_logprobs": -rng.random((P, G, T)).astype(np.float32) for whose in ("old", "reference", "teacher")
  }
  return logprobs | dict(
    rewards=rng.normal(size=(P, G)).astype(np.float32),
    accuracy=(rng.random((P, G)) < 0.5).astype(np.float32),
    lengths=lengths.astype(np.int32),
    valid=valid,
    mask=(np.arange(T) < lengths[..., None]) & valid[..., None],
    greedy_rewards=rng.normal(size=P).astype(np.float32),
  )


ESTIMATORS = sorted(public().keys() - NO_ESTIMATORS)
each_estimator = pytest.mark.parametrize("name", ESTIMATORS)


def call(name, given):
  function = getattr(advantages, name)
  taken = {key: value for key, value in given.items() if key in inspect.signature(function).parameters}
  return np.asarray(jax.jit(functools.partial(function, **OPTIONS.get(name, {})))(**taken))


@pytest.mark.parametrize("name", sorted(public()))
def test_names_of_the_module_are_estimators_but_for_a_few(name):
  if name in NO_ESTIMATORS:
    with pytest.raises(InputError, match="expected one of"):
      Estimator(name, {})
  else:
    assert Estimator(name, OPTIONS.get(name, {})).name == name


@each_estimator
def test_what_is_left_out_has_advantage_zero_and_changes_nothing(name):
  given = arrays()
  found = call(name, given)
  assert found.shape in ((P, G), (P, G, T)) and found.dtype == np.float32
  assert np.isfinite(found).all() and np.any(found != 0)
  out = ~given["valid"] if found.ndim == 2 else ~given["mask"]
  np.testing.assert_array_equal(found[out], 0)
  poisoned = dict(given)
  for key in ("rewards", "accuracy"):
    poisoned[key] = np.where(given["valid"], given[key], np.nan).astype(np.float32)
  for key in ("old_logprobs", "reference_logprobs", "teacher_logprobs"):
    poisoned[key] = np.where(given["mask"], given[key], np.nan).astype(np.float32)
  np.testing.assert_array_equal(call(name, poisoned), found)


@each_estimator
def test_advantages_are_constants(name):
  given = arrays()
  function = getattr(advantages, name)
  taken = {key: value for key, value in given.items() if key in inspect.signature(function).parameters}
  floats = {key: value for key, value in taken.items() if value.dtype == np.float32}

  def total(floats):
    return jnp.sum(function(**taken | floats, **OPTIONS.get(name, {})))

  for gradient in jax.jit(jax.grad(total))(floats).values():
    np.testing.assert_array_equal(gradient, 0 * gradient)
