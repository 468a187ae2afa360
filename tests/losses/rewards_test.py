import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.losses import rewards


def test_soft_overlong_penalty_by_hand():
  # The paper's numbers: no penalty up to 20480 − 4096 = 16384, half way −1/2, −1 at the cap.
  lengths = np.array([[0, 1, 16384], [16385, 18432, 20480]])
  penalty = rewards.soft_overlong_penalty(lengths, max_length=20480, buffer=4096)
  np.testing.assert_allclose(penalty, [[0, 0, 0], [-1 / 4096, -0.5, -1]], rtol=1e-7)
  assert penalty.dtype == jnp.float32


def test_a_penalty_never_leaves_its_range():
  np.testing.assert_array_equal(rewards.soft_overlong_penalty(np.array([30000]), max_length=20480, buffer=4096), [-1])
  penalty = rewards.soft_overlong_penalty(np.arange(10), max_length=9, buffer=9)
  np.testing.assert_allclose(penalty, -np.arange(10) / 9, rtol=1e-6)


def test_without_a_buffer_it_is_a_step():
  penalty = rewards.soft_overlong_penalty(np.array([8, 9, 10, 11]), max_length=10, buffer=0)
  np.testing.assert_array_equal(penalty, [0, 0, -1, -1])
  # As it is the limit of ever shorter ramps.
  one = rewards.soft_overlong_penalty(np.array([8, 9, 10, 11]), max_length=10, buffer=1)
  np.testing.assert_array_equal(penalty, one)


@pytest.mark.parametrize("buffer", [-1, 11])
def test_a_bad_buffer_is_named(buffer):
  with pytest.raises(ValueError, match=f"buffer: .* max_length = 10 tokens, found {buffer}"):
    rewards.soft_overlong_penalty(np.array([1]), max_length=10, buffer=buffer)


def test_the_score_is_on_the_last_counted_token():
  mask = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0]])
  expected = np.array([[0, 0, 1, 0], [0, 0, 2, 0], [0, 0, 0, 0], [0, 0, 0, 4], [0, 5, 0, 0]])
  score = np.array([1.0, 2, 3, 4, 5])
  for dtype in (bool, np.float32, np.int32):
    np.testing.assert_array_equal(rewards.token_rewards(score, mask.astype(dtype)), expected)
  grouped = rewards.token_rewards(score[:4].reshape(2, 2), mask[:4].reshape(2, 2, 4))
  np.testing.assert_array_equal(grouped.reshape(4, 4), expected[:4])


def test_kl_is_charged_on_counted_tokens():
  mask, kl = np.array([[1, 0, 1, 0]]), np.array([[1.0, np.nan, 2.0, np.inf]])
  charged = rewards.token_rewards(np.array([1.0]), mask, kl=kl, kl_coefficient=0.1)
  np.testing.assert_allclose(charged, [[-0.1, 0, 0.8, 0]], rtol=1e-6)


def test_rewards_are_constants_and_failed_scores_stay_where_they_are():
  score, mask = np.array([1.0, np.nan]), np.array([[1, 1], [0, 0]])
  np.testing.assert_array_equal(rewards.token_rewards(score, mask), [[0, 1], [0, 0]])
  kl = np.ones((2, 2))
  gradient = jax.grad(lambda k: jnp.sum(rewards.token_rewards(score, mask, kl=k, kl_coefficient=1.0)))(kl)
  np.testing.assert_array_equal(gradient, np.zeros((2, 2)))
  jitted = jax.jit(rewards.token_rewards)
  np.testing.assert_array_equal(jitted(score, mask), rewards.token_rewards(score, mask))


def test_shapes_and_dtypes():
  with pytest.raises(AssertionError):
    rewards.token_rewards(np.zeros((2, 1)), np.ones((2, 3)))
  with pytest.raises(AssertionError):
    rewards.token_rewards(np.zeros(2), np.ones((2, 3)), kl=np.zeros((2, 2)))
  assert rewards.token_rewards(jnp.ones(1, jnp.bfloat16), np.ones((1, 1))).dtype == jnp.float32
