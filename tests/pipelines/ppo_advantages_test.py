"""Tests PPO's arithmetic by hand.

Tested are which token gets which reward, and what whitening leaves unchanged.
"""

import numpy as np
import pytest

from posttrain_jax import losses
from posttrain_jax.pipelines.ppo_advantages import AdvantageEstimator, KLPenalty, NoEnd, Whitening, estimate
from posttrain_jax.types import InputError

PLAIN = Whitening(rewards=False, advantages=False)
K1 = dict(coefficient=0.02, estimator="k1", adaptive=False, target=6.0, horizon=10_000)
CHARGED = KLPenalty(**K1)
GAE = dict(discount=1.0, lam_critic=0.95, lam_policy=0.95, length_adaptive=0.0)
# Two prompts with two answers of up to 4 tokens; one has no reward, so its tokens do not count.
MASK = np.array([[[1, 1, 1, 0], [1, 1, 0, 0]], [[0, 0, 0, 0], [1, 1, 1, 1]]], bool)
SCORES = np.array([[1.0, 0.0], [0.0, -1.0]], np.float32)
OLD = np.where(MASK, -1.0, np.nan).astype(np.float32)
REFERENCE = np.where(MASK, -1.5, np.nan).astype(np.float32)
VALUES = np.where(MASK, 0.25, 99.0).astype(np.float32)


def run(*, scores=SCORES, values=VALUES, beta=0.0, kl=CHARGED, whitening=PLAIN, **gae):
  estimator = AdvantageEstimator(**{**GAE, "lam_critic": 1.0, "lam_policy": 1.0, **gae})
  found = estimate(
    scores, OLD, REFERENCE, values, MASK, kl_coefficient=beta, kl_penalty=kl, estimator=estimator, whitening=whitening
  )
  return (*(np.asarray(array) for array in found[:2]), found[2])


def test_the_score_is_paid_on_the_last_counted_token():
  # λ 0: a token's advantage is its own reward and the step from its value to the next, which is 0 after the last.
  advantages, returns, _ = run(lam_critic=0.0, lam_policy=0.0)
  np.testing.assert_allclose(advantages[0, 0], [0, 0, 1 - 0.25, 0], atol=1e-6)
  np.testing.assert_allclose(advantages[0, 1], [0, -0.25, 0, 0], atol=1e-6)
  np.testing.assert_array_equal(advantages[1, 0], np.zeros(4))
  np.testing.assert_allclose(advantages[1, 1], [0, 0, 0, -1.25], atol=1e-6)
  np.testing.assert_allclose(returns[0, 0], [0.25, 0.25, 1, 0], atol=1e-6)
  # λ 1: the return is all that is still to come.
  advantages, returns, _ = run()
  np.testing.assert_allclose(returns[1, 1], [-1, -1, -1, -1], atol=1e-6)
  np.testing.assert_allclose(advantages[0, 0], [0.75, 0.75, 0.75, 0], atol=1e-6)


def test_the_kl_is_charged_on_every_token():
  # log π_old − log π_ref is ½ on every token, so a token's return is the score less β / 2 for itself and what follows.
  _, returns, metrics = run(beta=0.2)
  np.testing.assert_allclose(returns[0, 0], [1 - 0.3, 1 - 0.2, 1 - 0.1, 0], atol=1e-6)
  np.testing.assert_allclose(returns[0, 1], [-0.2, -0.1, 0, 0], atol=1e-6)
  assert metrics["kl/reference"] == pytest.approx(0.5)
  assert metrics["kl/answer"] == pytest.approx((1.5 + 1 + 2) / 3)  # the answer that does not count is no answer
  _, returns, metrics = run(beta=0.2, kl=KLPenalty(**{**K1, **dict(estimator="k2")}))
  assert metrics["kl/reference"] == pytest.approx(0.125) and returns[0, 1, 0] == pytest.approx(-0.05)


def test_two_lambdas():
  both, returns, _ = run(lam_critic=1.0, lam_policy=0.0)
  np.testing.assert_allclose(both[0, 0], [0, 0, 0.75, 0], atol=1e-6)
  np.testing.assert_allclose(returns[0, 0], [1, 1, 1, 0], atol=1e-6)  # the critic's own
  adaptive, again, _ = run(lam_critic=1.0, length_adaptive=0.5)
  np.testing.assert_array_equal(again, returns)
  # Lengths 3, 2 and 4: λ = 1 − 1 / (length / 2) = 1/3, 0 and 1/2.
  np.testing.assert_allclose(adaptive[0, 0], [0.75 / 9, 0.75 / 3, 0.75, 0], atol=1e-6)
  np.testing.assert_allclose(adaptive[0, 1], [0, -0.25, 0, 0], atol=1e-6)
  np.testing.assert_allclose(adaptive[1, 1], [-1.25 / 8, -1.25 / 4, -1.25 / 2, -1.25], atol=1e-6)


def test_whitened_rewards_keep_their_mean():
  # With λ = 0 and values of 0 an advantage is the token's reward.
  nothing = np.zeros_like(VALUES)
  gae = dict(values=nothing, lam_critic=0.0, lam_policy=0.0, beta=0.2)
  plain, whitened = run(**gae)[0][MASK], run(**gae, whitening=Whitening(True, False))[0][MASK]
  assert whitened.mean() == pytest.approx(plain.mean(), abs=1e-6) and abs(plain.mean()) > 0.05
  assert whitened.std() == pytest.approx(1, rel=1e-5)
  np.testing.assert_allclose((whitened - whitened.mean()) * plain.std(), plain - plain.mean(), atol=1e-6)


def test_whitened_advantages_leave_the_returns_alone():
  plain, returns, metrics = run()
  whitened, same, _ = run(whitening=Whitening(False, True))
  np.testing.assert_array_equal(returns, same)
  assert whitened[MASK].mean() == pytest.approx(0, abs=1e-6) and whitened[MASK].std() == pytest.approx(1, rel=1e-5)
  assert np.all(whitened[~MASK] == 0)
  assert metrics["advantages/std"] == pytest.approx(plain[MASK].std(), rel=1e-5)
  assert metrics["returns/mean"] == pytest.approx(returns[MASK].mean(), rel=1e-5)
  assert metrics["returns/std"] == pytest.approx(returns[MASK].std(), rel=1e-5)
  assert metrics["value/mean"] == pytest.approx(0.25)
  assert metrics["value/explained_variance"] == pytest.approx(0, abs=1e-6)


def test_an_answer_without_an_end_gets_another_score():
  truncated = np.array([[True, False], [False, False]])
  np.testing.assert_array_equal(NoEnd(penalised=False, score=-1.0).apply(SCORES, truncated), SCORES)
  np.testing.assert_array_equal(NoEnd(penalised=True, score=-2.0).apply(SCORES, truncated), [[-2, 0], [0, -1]])


def test_the_coefficient_follows_the_kl():
  fixed = KLPenalty(**{**K1, **dict(coefficient=0.1)})
  assert fixed.adapted(0.1, 50.0, 512) == 0.1
  adaptive = KLPenalty(**{**K1, **dict(coefficient=0.1, adaptive=True, target=6.0, horizon=10_000)})
  assert adaptive.adapted(0.1, 6.6, 512) == pytest.approx(0.1 * (1 + 0.1 * 512 / 10_000), rel=1e-6)
  assert adaptive.adapted(0.1, 600.0, 512) == pytest.approx(0.1 * (1 + 0.2 * 512 / 10_000), rel=1e-6)
  assert adaptive.adapted(0.1, 0.0, 512) == pytest.approx(0.1 * (1 - 0.2 * 512 / 10_000), rel=1e-6)
  assert adaptive.adapted(0.1, 600.0, 0) == 0.1  # no answer counted, nothing was measured
  assert losses.kl.adaptive_coefficient(0.1, 6.0, target=6.0, horizon=10, samples=5) == np.float32(0.1)


@pytest.mark.parametrize(
  ("make", "expected"),
  [
    (lambda: AdvantageEstimator(**{**GAE, **dict(discount=1.1)}), r"gae\.discount: 1\.1, expected 0 to 1"),
    (lambda: AdvantageEstimator(**{**GAE, **dict(lam_policy=-0.1)}), r"gae\.lam_policy"),
    (lambda: AdvantageEstimator(**{**GAE, **dict(length_adaptive=-1.0)}), r"gae\.length_adaptive"),
    (lambda: KLPenalty(**{**K1, **dict(estimator="k3+")}), r"kl\.estimator: 'k3\+'"),
    (lambda: KLPenalty(**{**K1, **dict(coefficient=-1.0)}), r"kl\.coefficient"),
    (lambda: KLPenalty(**{**K1, **dict(adaptive=True, target=0.0)}), "target 0.0"),
    (lambda: KLPenalty(**{**K1, **dict(adaptive=True, coefficient=0.0)}), "expected more than 0"),
  ],
)
def test_numbers_that_mean_nothing(make, expected):
  with pytest.raises(InputError, match=expected):
    make()
