import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.losses import advantages, policy

FORMS = {
  "remax": lambda rewards, **options: advantages.remax(rewards, np.full(len(rewards), 0.25, np.float32), **options),
  "batch_centered": advantages.batch_centered,
  "positive_only": advantages.positive_only,
}
each_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())


def test_remax_by_hand():
  rewards, greedy = np.array([[1.0, 0, 0.5], [1, 1, 0]]), np.array([0.5, 1])
  np.testing.assert_allclose(advantages.remax(rewards, greedy), [[0.5, -0.5, 0], [0, 0, -1]])
  np.testing.assert_allclose(advantages.remax(rewards[:, :1], greedy), [[0.5], [0]])  # a group of one


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_remax_without_a_greedy_reward_is_zero(bad):
  rewards = np.array([[1.0, 0, np.nan], [1, 0, np.nan]])
  valid = np.array([[1, 1, 0], [1, 1, 0]])
  result = advantages.remax(rewards, np.array([bad, 0.5]), valid=valid)
  np.testing.assert_array_equal(result, [[0, 0, 0], [0.5, -0.5, 0]])


def test_remax_wants_one_greedy_reward_a_prompt():
  for wrong in (np.zeros(3), np.zeros((2, 1)), np.zeros(())):
    with pytest.raises(AssertionError):
      advantages.remax(np.zeros((2, 3)), wrong)


def test_batch_centered_by_hand():
  # The groups' means are 1/2 and 1, the batch's 3/4.
  np.testing.assert_allclose(advantages.batch_centered(np.array([[0.0, 1], [1, 1]])), [[-0.75, 0.25], [0.25, 0.25]])
  np.testing.assert_allclose(advantages.batch_centered(np.array([[0.0], [1]])), [[-0.5], [0.5]])  # groups of one
  rewards, valid = np.array([[0.0, np.nan], [np.inf, 3]]), np.array([[1, 0], [0, 1]])
  np.testing.assert_allclose(advantages.batch_centered(rewards, valid=valid), [[-1.5, 0], [0, 1.5]])


@pytest.mark.parametrize("reward", [0.7, 1e8 / 3])
def test_batch_centered_equal_rewards_give_exact_zeros(reward):
  np.testing.assert_array_equal(advantages.batch_centered(np.full((3, 8), reward, np.float32)), 0)


def test_positive_only_by_hand():
  accuracy, valid = np.array([[0.0, 0.5, 0.6, 1], [1, np.nan, 1, np.nan]]), np.array([[1, 1, 1, 1], [1, 0, 0, 1]])
  np.testing.assert_array_equal(advantages.positive_only(accuracy, valid=valid), [[0, 0, 1, 1], [1, 0, 0, 0]])
  np.testing.assert_array_equal(advantages.positive_only(accuracy[:1], threshold=0.9), [[0, 0, 0, 1]])
  np.testing.assert_array_equal(advantages.positive_only(accuracy[:1], threshold=-1.0), [[1, 1, 1, 1]])


def test_positive_only_with_reinforce_is_the_likelihood_of_right_answers():
  logprobs, mask = np.array([[[-1.0, -2], [-3, -4]]]), np.array([[[1, 1], [1, 0]]])
  result = advantages.positive_only(np.array([[1.0, 0]]))[..., None]
  np.testing.assert_allclose(policy.reinforce(logprobs, logprobs, result, mask), [[[1, 2], [0, 0]]])


@each_form
def test_valid_jit_constants_dtypes_and_ranks(form):
  rewards, valid = np.array([[0, 1, 1], [1, 1, 0]], np.float32), np.array([[1, 1, 0], [0, 1, 1]])
  result = form(rewards, valid=valid)
  assert np.any(result != 0) and np.all(result[valid == 0] == 0)
  for bad in (np.nan, np.inf):
    np.testing.assert_array_equal(form(np.where(valid, rewards, bad), valid=valid.astype(bool)), result)
  np.testing.assert_array_equal(form(rewards, valid=np.zeros((2, 3))), 0)
  np.testing.assert_array_equal(form(rewards, valid=np.ones((2, 3))), form(rewards))
  np.testing.assert_allclose(jax.jit(form)(rewards, valid=valid), result, rtol=1e-6)
  np.testing.assert_array_equal(jax.grad(lambda r: jnp.sum(form(r, valid=valid) ** 2))(rewards), np.zeros((2, 3)))
  for dtype in (jnp.bfloat16, jnp.int32, bool):
    assert form(rewards.astype(dtype)).dtype == jnp.float32
    np.testing.assert_array_equal(form(rewards.astype(dtype)), form(rewards))
  for wrong in (np.zeros(3), np.zeros((1, 3, 1))):
    with pytest.raises(AssertionError):
      form(wrong)
  for wrong in (np.ones(3), np.ones(6), np.ones((3, 2))):
    with pytest.raises(AssertionError):
      form(rewards, valid=wrong)
