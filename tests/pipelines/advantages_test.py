"""Tests which functions are estimators, what they are given, and what is refused."""

import inspect

import jax
import numpy as np
import pytest

from posttrain_jax import losses
from posttrain_jax.pipelines.advantages import Estimator, charge_kl
from posttrain_jax.types import InputError

P, G, T = 3, 4, 5
rng = np.random.default_rng(0)
LENGTHS = rng.integers(1, T + 1, (P, G))
ARRAYS = dict(
  rewards=rng.normal(size=(P, G)).astype(np.float32),
  accuracy=(rng.random((P, G)) < 0.5).astype(np.float32),
  lengths=LENGTHS.astype(np.int32),
  valid=np.ones((P, G), bool),
  mask=np.arange(T) < LENGTHS[..., None],
  old_logprobs=-rng.random((P, G, T)).astype(np.float32),
  reference_logprobs=-rng.random((P, G, T)).astype(np.float32),
  teacher_logprobs=-rng.random((P, G, T)).astype(np.float32),
  greedy_rewards=rng.normal(size=P).astype(np.float32),
)


@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("group_normalized", {}),
    ("group_normalized", {"ddof": 1, "epsilon": 1e-4}),
    ("leave_one_out", {}),
    ("reinforce_plus_plus", {"kl_coefficient": 0.1}),
    ("reinforce_plus_plus_baseline", {"ddof": 1}),
    ("remax", {}),
    ("optimal_baseline", {}),
    ("batch_centered", {}),
    ("positive_only", {"threshold": 0.4}),
    ("distillation", {}),
  ],
)
def test_an_estimator_is_the_function_of_that_name(name, options):
  estimator, function = Estimator(name, options), getattr(losses.advantages, name)
  expected = np.asarray(function(**{each: ARRAYS[each] for each in estimator.inputs}, **options))
  assert set(estimator.inputs) <= set(inspect.signature(function).parameters)
  found = estimator(**ARRAYS)
  assert found.dtype == np.float32 and found.shape in ((P, G, 1), (P, G, T))
  np.testing.assert_allclose(found, expected.reshape(found.shape), atol=1e-6)


def test_an_estimator_that_was_just_written_needs_no_entry_anywhere(monkeypatch):
  def longest_first(rewards, lengths, *, weight):
    return rewards + weight * lengths

  monkeypatch.setattr(losses.advantages, "longest_first", longest_first, raising=False)
  estimator = Estimator("longest_first", {"weight": 2.0})
  assert estimator.inputs == ("rewards", "lengths")
  np.testing.assert_allclose(estimator(**ARRAYS)[..., 0], ARRAYS["rewards"] + 2 * ARRAYS["lengths"], rtol=1e-6)


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("gae", {}, r"advantage: 'gae', expected one of .*group_normalized"),  # needs values
    ("informative_groups", {}, "advantage: 'informative_groups', expected one of"),  # says which groups, not how good
    ("length_adaptive_lambda", {}, "advantage: 'length_adaptive_lambda', expected one of"),
    ("whiten", {}, "advantage: 'whiten', expected one of"),
    ("jax", {}, "advantage: 'jax', expected one of"),
    ("group_centered", {"ddof": 1}, r"advantage_options\.ddof: group_centered has no such option, expected none"),
    ("reinforce_plus_plus", {}, r"advantage_options\.kl_coefficient: missing"),
    ("group_normalized", {"scale": "galaxy"}, "do not suit group_normalized"),
  ],
)
def test_what_is_no_estimator_is_refused(name, options, message):
  with pytest.raises(InputError, match=message):
    Estimator(name, options)


def test_kl_in_the_reward_is_of_counted_tokens():
  charged = charge_kl(
    ARRAYS["rewards"], ARRAYS["old_logprobs"], ARRAYS["reference_logprobs"], ARRAYS["mask"], coefficient=0.5
  )
  for p, g in np.ndindex(P, G):
    n = LENGTHS[p, g]
    kl = ARRAYS["old_logprobs"][p, g, :n].sum() - ARRAYS["reference_logprobs"][p, g, :n].sum()
    assert charged[p, g] == pytest.approx(ARRAYS["rewards"][p, g] - 0.5 * kl, abs=1e-6)
  broken = np.where(ARRAYS["mask"], ARRAYS["old_logprobs"], np.nan)
  np.testing.assert_array_equal(
    charge_kl(ARRAYS["rewards"], broken, ARRAYS["reference_logprobs"], ARRAYS["mask"], coefficient=0.5), charged
  )


def test_the_second_call_compiles_nothing():
  estimator = Estimator("reinforce_plus_plus", {"kl_coefficient": 0.1})
  estimator(**ARRAYS)
  compiled = []
  jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, **_: compiled.append(event) if event.endswith("backend_compile_duration") else None
  )
  estimator(**ARRAYS)
  assert not compiled
