import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain_jax.losses import advantages

GROUP_FORMS = {
  "normalized": advantages.group_normalized,
  "batch": functools.partial(advantages.group_normalized, scale="batch"),
  "sample_std": functools.partial(advantages.group_normalized, ddof=1, epsilon=1e-6),
  "centered": advantages.group_centered,
  "leave_one_out": advantages.leave_one_out,
  "optimal": lambda rewards, **valid: advantages.optimal_baseline(rewards, np.full(np.shape(rewards), 5), **valid),
}
each_form = pytest.mark.parametrize("form", GROUP_FORMS.values(), ids=GROUP_FORMS.keys())


def test_normalized_by_hand():
  # [0 0 0 1]: mean 1/4, population variance 3/16, sample variance 1/4.
  rewards = np.array([[0.0, 0, 0, 1]])
  z = np.array([[-0.25, -0.25, -0.25, 0.75]])
  np.testing.assert_allclose(advantages.group_normalized(rewards), z / np.sqrt(3 / 16), rtol=1e-6)
  np.testing.assert_allclose(advantages.group_normalized(rewards, ddof=1), z / 0.5, rtol=1e-6)
  np.testing.assert_allclose(advantages.group_normalized(rewards, ddof=1, epsilon=0.5), z, rtol=1e-6)


def test_batch_scale_by_hand():
  # Group means 1 and 1; all four rewards 0 2 1 1 have mean 1 and population variance 1/2.
  rewards = np.array([[0.0, 2], [1, 1]])
  expected = np.array([[-1, 1], [0, 0]]) * np.sqrt(2)
  np.testing.assert_allclose(advantages.group_normalized(rewards, scale="batch"), expected, rtol=1e-6)


def test_centered_and_leave_one_out_by_hand():
  rewards = np.array([[0.0, 3, 6]])
  np.testing.assert_allclose(advantages.group_centered(rewards), [[-3, 0, 3]])
  np.testing.assert_allclose(advantages.leave_one_out(rewards), [[0 - 4.5, 3 - 3, 6 - 1.5]])


def test_optimal_baseline_by_hand():
  # Lengths 1, 3 and 6: (1·0 + 3·2 + 6·1) / 10 = 1.2; without the second, (0 + 6) / 7.
  rewards, lengths = np.array([[0.0, 2, 1]]), np.array([[1, 3, 6]])
  np.testing.assert_allclose(advantages.optimal_baseline(rewards, lengths), [[-1.2, 0.8, -0.2]], rtol=1e-6)
  valid = np.array([[1, 0, 1]])
  for bad in (2.0, np.nan):
    result = advantages.optimal_baseline(np.array([[0.0, bad, 1]]), lengths, valid=valid)
    np.testing.assert_allclose(result, [[-6 / 7, 0, 1 / 7]], rtol=1e-6)
  np.testing.assert_array_equal(advantages.optimal_baseline(np.full((1, 3), 0.7, np.float32), lengths), 0)


def test_optimal_baseline_with_equal_lengths_is_the_mean():
  rewards = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
  lengths = np.array([[7] * 5, [1] * 5])
  result = advantages.optimal_baseline(rewards, lengths)
  np.testing.assert_allclose(result, advantages.group_centered(rewards), atol=1e-6)


def test_optimal_baseline_wants_a_length_an_answer():
  with pytest.raises(AssertionError):
    advantages.optimal_baseline(np.zeros((2, 3)), np.ones((2, 1)))


def test_invalid_rewards_by_hand():
  # Of [0 . 3] the mean is 1.5 and the population standard deviation 1.5.
  rewards, valid = np.array([[0.0, np.nan, 3]]), np.array([[1, 0, 1]])
  np.testing.assert_allclose(advantages.group_normalized(rewards, valid=valid), [[-1, 0, 1]], rtol=1e-6)
  np.testing.assert_allclose(advantages.group_centered(rewards, valid=valid), [[-1.5, 0, 1.5]])
  np.testing.assert_allclose(advantages.leave_one_out(rewards, valid=valid), [[-3, 0, 3]])


@each_form
@pytest.mark.parametrize("size", [1, 3, 7, 8, 64])
def test_equal_rewards_give_exact_zeros_in_float32(form, size):
  equal = np.full((size, 5), [0.7, 0.1, 1e8 / 3, -1e-3, 0.0], np.float32).T
  other = np.linspace(0, 1, size, dtype=np.float32)[None]
  result = form(np.concatenate([equal, other]))
  np.testing.assert_array_equal(result[:5], 0)
  assert np.all(np.isfinite(result)) and (size == 1 or np.any(result[5] != 0))


def test_rewards_that_differ_by_rounding_are_equal():
  rewards = np.full((1, 8), 0.7, np.float32)
  rewards[0, 0] = np.nextafter(np.float32(0.7), np.float32(1))
  assert len(np.unique(rewards)) == 2
  np.testing.assert_array_equal(advantages.group_normalized(rewards), 0)


def test_min_std():
  rewards = np.array([[0.0, 2e-3]])  # std 1e-3
  np.testing.assert_allclose(advantages.group_normalized(rewards, min_std=9e-4), [[-1, 1]], rtol=1e-5)
  np.testing.assert_array_equal(advantages.group_normalized(rewards, min_std=1.1e-3), [[0, 0]])


@each_form
def test_fewer_than_two_valid_rewards_give_zeros(form):
  rewards = np.array([[np.nan, 5, np.inf], [np.nan, np.nan, np.nan], [0, 1, 5]])
  valid = np.array([[False, True, False], [False, False, False], [True, True, False]])
  result = form(rewards, valid=valid)
  np.testing.assert_array_equal(result[:2], 0)
  assert result[2, 2] == 0 and np.all(result[2, :2] != 0)


@each_form
def test_valid_is_a_slice(form):
  rng = np.random.default_rng(0)
  rewards, valid = rng.normal(size=(1, 6)).astype(np.float32), np.array([[1, 0, 1, 1, 0, 1]])
  keep = valid[0] == 1
  result = form(rewards, valid=valid)
  np.testing.assert_allclose(result[:, keep], form(rewards[:, keep]), rtol=1e-6)
  np.testing.assert_array_equal(result[:, ~keep], 0)
  np.testing.assert_array_equal(form(rewards, valid=valid.astype(bool)), result)
  np.testing.assert_array_equal(form(rewards, valid=np.ones((1, 6))), form(rewards))
  np.testing.assert_allclose(jax.jit(form)(rewards, valid=valid), result, rtol=1e-5)


@each_form
def test_constants_dtypes_and_ranks(form):
  rewards = jnp.array([[0.0, 1.0, 1.0]])
  np.testing.assert_array_equal(jax.grad(lambda r: jnp.sum(form(r) ** 2))(rewards), np.zeros((1, 3)))
  for dtype in (jnp.bfloat16, jnp.int32, bool):
    result = form(rewards.astype(dtype))
    assert result.dtype == jnp.float32
    np.testing.assert_array_equal(result, form(rewards))
  for wrong in (np.zeros(3), np.zeros((1, 3, 1))):  # [B] would be one group
    with pytest.raises(AssertionError):
      form(wrong)
  with pytest.raises(AssertionError):
    form(rewards, valid=np.ones(3))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([2, 7]).flatmap(lambda n: st.lists(st.floats(-1e3, 1e3, width=32), min_size=n, max_size=n)))
def test_group_forms_against_numpy(values):
  with jax.enable_x64(True):
    r = np.array([values])
    n = r.size
    centered = r - r.mean()
    np.testing.assert_allclose(advantages.group_centered(r), centered, atol=1e-10)
    np.testing.assert_allclose(advantages.leave_one_out(r), r - (r.sum() - r) / (n - 1), atol=1e-10)
    if r.std() > 1e-6:
      np.testing.assert_allclose(advantages.group_normalized(r), centered / r.std(), atol=1e-6)


def test_names_a_bad_scale():
  with pytest.raises(ValueError, match="scale: expected 'group' or 'batch', found 'all'"):
    advantages.group_normalized(np.zeros((1, 2)), scale="all")


def test_informative_groups():
  accuracy = np.array([[0, 0, 0], [0, 1, 0], [1, 1, 1], [0.5, 0.5, 0.4], [0.5, 0.6, 0.5]])
  np.testing.assert_array_equal(advantages.informative_groups(accuracy), [False, True, False, False, True])
  assert advantages.informative_groups(accuracy).dtype == bool


def test_informative_groups_look_at_valid_verdicts_only():
  accuracy = np.array([[0, 0, np.nan], [0, 1, np.nan], [1, 1, 0], [0, 1, 1], [1, 0, 0]])
  valid = np.array([[1, 1, 0], [1, 1, 0], [1, 1, 0], [0, 1, 1], [1, 0, 0]])
  expected = [False, True, False, False, False]
  for dtype in (bool, np.float32):
    np.testing.assert_array_equal(advantages.informative_groups(accuracy, valid=valid.astype(dtype)), expected)
  np.testing.assert_array_equal(jax.jit(advantages.informative_groups)(accuracy, valid=valid), expected)


def test_informative_groups_are_those_with_an_advantage():
  accuracy = (np.random.default_rng(0).random((50, 4)) < 0.5).astype(np.float32)
  valid = np.random.default_rng(1).random((50, 4)) < 0.7
  informative = advantages.informative_groups(accuracy, valid=valid)
  assert 0 < informative.sum() < 50
  has_advantage = np.any(np.asarray(advantages.group_normalized(accuracy, valid=valid)) != 0, axis=1)
  np.testing.assert_array_equal(informative, has_advantage)
