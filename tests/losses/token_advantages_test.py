import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.losses import advantages, kl, policy, rewards

GAE = {"discount": 0.9, "lam": 0.8}


def example(shape=(5, 7), seed=0):
  rng = np.random.default_rng(seed)
  token_rewards, values = rng.normal(size=(2, *shape)).astype(np.float32)
  mask = rng.random(shape) < 0.6
  mask[0], mask[1] = False, True
  return token_rewards, values, mask


def test_gae_by_hand():
  # γ = .5, λ = .5, from the end: δ₃ = 4 − 2 = 2, A₃ = 2; δ₂ = 0 + .5·2 − 1 = 0, A₂ = 0 + .25·2 = .5;
  # δ₁ = 1 + .5·1 − 0 = 1.5, A₁ = 1.5 + .25·.5 = 1.625. A hole between the first two changes nothing.
  mask = np.array([[1, 0, 1, 1, 0]])
  token_rewards, values = np.array([[1, 9, 0, 4, 9.0]]), np.array([[0, 9, 1, 2, 9.0]])
  result, returns = advantages.gae(token_rewards, values, mask, discount=0.5, lam=0.5)
  np.testing.assert_allclose(result, [[1.625, 0, 0.5, 2, 0]])
  np.testing.assert_allclose(returns, [[1.625, 0, 1.5, 4, 0]])


def test_gae_is_a_sum_of_discounted_errors(x64):
  token_rewards, values, _ = (np.asarray(x, np.float64) for x in example())
  length = values.shape[1]
  result, returns = advantages.gae(token_rewards, values, np.ones(values.shape), **GAE)
  after = np.concatenate([values[:, 1:], np.zeros((5, 1))], axis=1)
  delta = token_rewards + 0.9 * after - values
  expected = [sum((0.9 * 0.8) ** k * delta[:, t + k] for k in range(length - t)) for t in range(length)]
  np.testing.assert_allclose(result, np.stack(expected, axis=1), atol=1e-13)
  np.testing.assert_allclose(returns, result + values, atol=1e-15)


def test_gae_with_lambda_one_is_reward_to_go_and_with_zero_the_td_error():
  token_rewards, values, mask = example()
  ones = np.ones_like(mask)
  to_go = np.cumsum(token_rewards[:, ::-1], axis=1)[:, ::-1]
  np.testing.assert_allclose(advantages.gae(token_rewards, values, ones, discount=1.0, lam=1.0)[1], to_go, atol=1e-5)
  td = token_rewards + np.concatenate([values[:, 1:], np.zeros((5, 1), np.float32)], axis=1) - values
  np.testing.assert_allclose(advantages.gae(token_rewards, values, ones, discount=1.0, lam=0.0)[0], td, atol=1e-5)


def test_gae_skips_masked_positions_as_if_they_were_not_there():
  token_rewards, values, mask = example()
  whole = advantages.gae(token_rewards, values, mask, **GAE)
  for row in range(1, 5):
    keep = mask[row]
    alone = advantages.gae(token_rewards[row, keep], values[row, keep], np.ones(keep.sum()), **GAE)
    for part, expected in zip(whole, alone):
      np.testing.assert_allclose(part[row, keep], expected, rtol=1e-5, atol=1e-6)
      np.testing.assert_array_equal(part[row, ~keep], 0)
  np.testing.assert_array_equal(np.stack(whole)[:, 0], 0)


def test_gae_takes_another_lambda_for_the_policy():
  token_rewards, values, mask = example()
  call = jax.jit(lambda **lams: advantages.gae(token_rewards, values, mask, discount=0.9, **lams))
  for_policy, returns = call(lam=1.0, lam_policy=0.5)
  np.testing.assert_allclose(for_policy, call(lam=0.5)[0], rtol=1e-6)
  np.testing.assert_allclose(returns, call(lam=1.0)[1], rtol=1e-6)
  per_answer = np.array([0.0, 0.5, 0.9, 1.0, 0.3], np.float32)
  each = call(lam=1.0, lam_policy=per_answer)[0]
  for row, lam in enumerate(per_answer):
    np.testing.assert_allclose(each[row], call(lam=float(lam))[0][row], rtol=1e-5, atol=1e-6)
  with pytest.raises(AssertionError):
    call(lam=1.0, lam_policy=per_answer[:4])


def test_gae_masks_dtypes_axes_and_constants():
  token_rewards, values, mask = example((4, 6))
  expected = advantages.gae(token_rewards, values, mask, **GAE)
  bad = (np.where(mask, x, np.nan) for x in (token_rewards, values))
  np.testing.assert_array_equal(advantages.gae(*bad, mask.astype(np.float32), **GAE), expected)
  grouped = advantages.gae(*(x.reshape(2, 2, 6) for x in (token_rewards, values, mask)), **GAE)
  np.testing.assert_allclose(np.reshape(grouped, (2, 4, 6)), np.stack(expected), rtol=1e-6)
  low = advantages.gae(*(jnp.asarray(x, jnp.bfloat16) for x in (token_rewards, values)), mask, **GAE)
  assert all(part.dtype == jnp.float32 for part in low)
  gradients = jax.grad(lambda *x: sum(map(jnp.sum, advantages.gae(*x, mask, **GAE))), (0, 1))(token_rewards, values)
  np.testing.assert_array_equal(gradients, np.zeros((2, 4, 6)))


def test_whiten():
  rng = np.random.default_rng(0)
  x, mask = rng.normal(3, 5, size=(4, 6)).astype(np.float32), rng.random((4, 6)) < 0.6
  result = np.asarray(advantages.whiten(x, mask))
  np.testing.assert_allclose(result[mask], (x[mask] - x[mask].mean()) / x[mask].std(), atol=1e-6)
  np.testing.assert_array_equal(result[~mask], 0)
  np.testing.assert_array_equal(advantages.whiten(np.where(mask, x, np.nan), mask), result)
  sample_std = x[mask].std(ddof=1)
  expected = (x[mask] - x[mask].mean()) / sample_std
  np.testing.assert_allclose(advantages.whiten(x, mask, ddof=1)[mask], expected, atol=1e-6)
  # The epsilon is added to the variance: [−1, 1] has variance 1.
  np.testing.assert_allclose(advantages.whiten(np.array([[-1.0, 1]]), np.ones((1, 2)), epsilon=3.0), [[-0.5, 0.5]])


def test_whiten_without_shifting_the_mean_by_hand():
  # 1 and 5: mean 3, variance 4. With 5 added to the variance the distance from the mean is divided by 3.
  x, mask = np.array([[1.0, np.nan, 5]]), np.array([[1, 0, 1]])
  np.testing.assert_allclose(advantages.whiten(x, mask, shift_mean=False), [[2, 0, 4]], rtol=1e-6)
  np.testing.assert_allclose(
    advantages.whiten(x, mask, shift_mean=False, epsilon=5.0), [[3 - 2 / 3, 0, 3 + 2 / 3]], rtol=1e-6
  )
  # Sample variance 8; equal values stay what they are.
  z = 2 / np.sqrt(8)
  np.testing.assert_allclose(advantages.whiten(x, mask, shift_mean=False, ddof=1), [[3 - z, 0, 3 + z]], rtol=1e-6)
  equal = advantages.whiten(np.full((1, 3), 0.7, np.float32), mask, shift_mean=False)
  np.testing.assert_allclose(equal, [[0.7, 0, 0.7]], rtol=1e-6)
  np.testing.assert_array_equal(advantages.whiten(x, 0 * mask, shift_mean=False), [[0, 0, 0]])
  gradient = jax.grad(lambda x: jnp.sum(advantages.whiten(x, mask, shift_mean=False)))(x)
  np.testing.assert_array_equal(gradient, [[0, 0, 0]])


@pytest.mark.parametrize("mask", [[[1, 1, 1]], [[1, 0, 0]], [[0, 0, 0]]])
def test_whiten_without_a_difference_is_zero(mask):
  np.testing.assert_array_equal(advantages.whiten(np.full((1, 3), 0.7, np.float32), np.array(mask), ddof=1), 0)


def test_reinforce_plus_plus_by_hand():
  # β = .5; KL per token .2 and .4 in the first answer: what is left to pay is .6 and .4, so A = 1 − .3 and 1 − .2.
  old, reference = np.array([[-1.0, -1, 7], [-1, 7, 7]]), np.array([[-1.2, -1.4, 0], [-1, 0, 0]])
  mask = np.array([[1, 1, 0], [1, 0, 0]])
  result = advantages.reinforce_plus_plus(np.array([1.0, 0]), old, reference, mask, kl_coefficient=0.5)
  a = np.array([0.7, 0.8, 0.0])
  z = (a - a.mean()) / a.std()
  np.testing.assert_allclose(result, [[z[0], z[1], 0], [z[2], 0, 0]], atol=1e-6)


def test_reinforce_plus_plus_whitens_what_is_still_to_come():
  _, _, mask = example()
  rng = np.random.default_rng(1)
  old, reference = rng.normal(size=(2, *mask.shape)).astype(np.float32)
  score = rng.normal(size=5).astype(np.float32)
  result = advantages.reinforce_plus_plus(score, old, reference, mask, kl_coefficient=0.1)
  token = rewards.token_rewards(score, mask, kl=kl.kl_estimate(old, reference, estimator="k1"), kl_coefficient=0.1)
  to_go = np.cumsum(np.asarray(token)[:, ::-1], axis=1)[:, ::-1]
  np.testing.assert_allclose(result, advantages.whiten(to_go, mask), atol=1e-5)
  # Tokens, not answers, are what mean and variance are taken over.
  counted = np.asarray(result)[mask]
  np.testing.assert_allclose([counted.mean(), counted.std()], [0, 1], atol=1e-5)


def test_reinforce_plus_plus_baseline_by_hand():
  # Centred rewards −1 and 1; the first answer has 3 tokens, the second 1: mean −1/2, variance 3/4.
  mask = np.array([[[1, 1, 1], [0, 1, 0]]])
  result = advantages.reinforce_plus_plus_baseline(np.array([[0.0, 2.0]]), mask)
  z = np.array([-0.5, 1.5]) / np.sqrt(0.75)
  np.testing.assert_allclose(result, [[[z[0]] * 3, [0, z[1], 0]]], rtol=1e-6)


def test_reinforce_plus_plus_baseline_leaves_out_answers_without_a_reward():
  mask = np.ones((2, 3, 4))
  scores, valid = np.array([[0.0, 1, np.nan], [1, 3, 5]]), np.array([[1, 1, 0], [1, 1, 1]])
  result = advantages.reinforce_plus_plus_baseline(scores, mask, valid=valid)
  np.testing.assert_array_equal(result[0, 2], 0)
  without = mask.copy()
  without[0, 2] = 0
  expected = advantages.whiten(np.array([[-0.5, 0.5, 0], [-2, 0, 2]])[..., None].repeat(4, 2), without)
  np.testing.assert_allclose(result, expected, rtol=1e-5)
  with pytest.raises(AssertionError):
    advantages.reinforce_plus_plus_baseline(scores, mask[0])


def test_length_adaptive_lambda_by_hand():
  # α = .05: 1 − 20 / length, 0 up to 20 tokens.
  lengths = np.array([0, 1, 19, 20, 40, 1000])
  expected = [0, 0, 0, 0, 0.5, 0.98]
  for dtype in (np.int32, np.float32):
    result = advantages.length_adaptive_lambda(lengths.astype(dtype))
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6)
  np.testing.assert_allclose(advantages.length_adaptive_lambda(np.array([[4]]), alpha=0.5), [[0.5]])
  np.testing.assert_allclose(jax.jit(advantages.length_adaptive_lambda)(lengths), expected, rtol=1e-6)


def test_length_adaptive_lambda_goes_into_gae():
  token_rewards, values, mask = example()
  lams = advantages.length_adaptive_lambda(mask.sum(axis=-1), alpha=0.5)
  result = advantages.gae(token_rewards, values, mask, discount=1.0, lam=1.0, lam_policy=lams)[0]
  for row in range(1, 5):
    lam = max(1 - 1 / (0.5 * mask[row].sum()), 0)
    alone = advantages.gae(token_rewards[row], values[row], mask[row], discount=1.0, lam=lam)[0]
    np.testing.assert_allclose(result[row], alone, rtol=1e-5, atol=1e-6)


def test_distillation_by_hand():
  old, teacher = np.array([[-1.0, -2, np.nan]], np.float32), np.array([[-0.5, -4, np.inf]], np.float32)
  mask = np.array([[1, 1, 0]])
  np.testing.assert_allclose(advantages.distillation(old, teacher, mask), [[0.5, -2, 0]])
  gradients = jax.grad(lambda *x: jnp.sum(advantages.distillation(*x, mask)), (0, 1))(old, teacher)
  np.testing.assert_array_equal(gradients, np.zeros((2, 1, 3)))
  low = (jnp.asarray(x, jnp.bfloat16) for x in (old, teacher))
  assert advantages.distillation(*low, mask).dtype == jnp.float32


def test_distillation_with_reinforce_has_the_gradient_of_the_reverse_kl(x64):
  # The expectation over the student's own tokens, exactly: every token of a vocabulary of 5, weighted by π.
  logits, teacher = np.random.default_rng(0).normal(size=(2, 5))
  teacher = jax.nn.log_softmax(teacher)

  def divergence(logits):
    student = jax.nn.log_softmax(logits)
    return jnp.sum(jnp.exp(student) * (student - teacher))

  def surrogate(logits):
    student = jax.nn.log_softmax(logits)
    ones = np.ones(5)
    advantage = advantages.distillation(student, teacher, ones)
    token_losses = policy.reinforce(student, student, advantage, ones)
    return jnp.sum(jax.lax.stop_gradient(jnp.exp(student)) * token_losses)

  np.testing.assert_allclose(jax.grad(surrogate)(logits), jax.grad(divergence)(logits), atol=1e-14)


def test_float32_sums_over_an_answer_of_20480_tokens_are_right():
  # A KL of .01 a token, added up from the end: one after the other it is off by 1e-4.
  mask = np.random.default_rng(0).random((2, 20_480)) < 0.9
  rewards, values = np.full(mask.shape, 0.01, np.float32), np.full(mask.shape, 3.0, np.float32)
  left = np.cumsum(mask[:, ::-1], axis=1)[:, ::-1]
  found, returns = advantages.gae(rewards, values, mask, discount=1.0, lam=1.0)
  wanted = left * float(np.float32(0.01))
  np.testing.assert_allclose(returns, np.where(mask, wanted, 0), rtol=1e-6)
  np.testing.assert_allclose(found, np.where(mask, wanted - 3, 0), rtol=1e-6, atol=1e-5)
  discounted, _ = advantages.gae(rewards, 0 * values, mask, discount=0.9999, lam=1.0)
  wanted = float(np.float32(0.01)) * (1 - 0.9999**left) / (1 - 0.9999)
  np.testing.assert_allclose(discounted, np.where(mask, wanted, 0), rtol=2e-6)
