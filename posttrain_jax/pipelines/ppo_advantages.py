"""Computes PPO's advantages and returns per token from the scores of answers.

  r_t = −β k_t + [t is the last counted token] · score    k_t estimates the KL, as k1 = log π_old − log π_ref does
  r ← mean(r) + (r − mean(r)) / std(r)                     (`whiten.rewards`)
  A, R = GAE(r, V)                                         with one λ for A and another for R, which the values learn
  A ← (A − mean(A)) / std(A)                               (`whiten.advantages`)

Means and deviations are over the counted tokens of the whole step. OpenAI's lm-human-preferences takes them over a
minibatch instead.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from posttrain_jax import losses
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class Whitening:
  """Describes what is whitened.

  Attributes:
    rewards: token rewards get a standard deviation of 1; their mean is left where it is.
    advantages: advantages get mean 0 and standard deviation 1.
  """

  rewards: bool
  advantages: bool


@dataclasses.dataclass(frozen=True)
class AdvantageEstimator:
  """Holds the constants of GAE.

  Attributes:
    discount: γ.
    lam_critic: λ of the returns, which the value model learns.
    lam_policy: λ of the advantages.
    length_adaptive: α: the advantages' λ is 1 − 1 / (α · length), clipped to [0, 1], in place of `lam_policy` (VAPO,
      2504.05118); 0 for `lam_policy`.
  """

  discount: float
  lam_critic: float
  lam_policy: float
  length_adaptive: float

  def __post_init__(self):
    """Raises InputError on values outside their range."""
    for name in ("discount", "lam_critic", "lam_policy"):
      if not 0 <= getattr(self, name) <= 1:
        raise InputError(f"gae.{name}: {getattr(self, name)}, expected 0 to 1")
    if self.length_adaptive < 0:
      raise InputError(f"gae.length_adaptive: {self.length_adaptive}, expected 0 (off) or more")


@dataclasses.dataclass(frozen=True)
class KLPenalty:
  """Describes the KL to the reference that is charged in the reward.

  Attributes:
    coefficient: β; the starting value where it adapts.
    estimator: of a token's KL, a `losses.kl` estimator. k1 is unbiased.
    adaptive: β follows the KL that there is.
    target: KL in nats an answer at which an adaptive β stays as it is.
    horizon: answers over which it adapts.
  """

  coefficient: float
  estimator: str
  adaptive: bool
  target: float
  horizon: int

  def __post_init__(self):
    """Raises InputError on an unknown estimator or a number that means nothing."""
    if self.estimator not in ("k1", "k2", "k3"):
      raise InputError(f"kl.estimator: {self.estimator!r}, expected k1, k2 or k3")
    if self.coefficient < 0:
      raise InputError(f"kl.coefficient: {self.coefficient}, expected 0 or more")
    if self.adaptive and (self.target <= 0 or self.horizon < 1 or not self.coefficient):
      raise InputError(
        f"kl: coefficient {self.coefficient}, target {self.target}, horizon {self.horizon}, expected more than 0 each "
        "to adapt the coefficient"
      )

  def adapted(self, coefficient: float, kl: float, answers: int) -> float:
    """Returns β after a step.

    Args:
      coefficient: β of the step.
      kl: mean KL to the reference of the step's answers, in nats.
      answers: how many there were.
    """
    if not (self.adaptive and answers):
      return coefficient
    new = losses.kl.adaptive_coefficient(coefficient, kl, target=self.target, horizon=self.horizon, samples=answers)
    return float(new)


@dataclasses.dataclass(frozen=True)
class NoEnd:
  """Describes the score of answers that ran into the cap.

  A reward model has not seen such answers.

  Attributes:
    penalised: whether they get `score` in place of their own score (OpenAI's lm-human-preferences, 1909.08593).
    score: in units of the reward.
  """

  penalised: bool
  score: float

  def apply(self, scores: np.ndarray, truncated: np.ndarray) -> np.ndarray:
    """Returns the scores [P, G] of answers, of which some are truncated, bool [P, G]."""
    return np.where(truncated, np.float32(self.score), scores) if self.penalised else scores


@functools.partial(jax.jit, static_argnames=("estimator", "whitening", "kl_estimator"))
def _estimate(scores, old_logprobs, reference_logprobs, values, mask, beta, *, estimator, whitening, kl_estimator):
  kl = losses.kl.kl_estimate(old_logprobs, reference_logprobs, estimator=kl_estimator, mask=mask)
  rewards = losses.rewards.token_rewards(scores, mask, kl=kl, kl_coefficient=beta)
  if whitening.rewards:
    rewards = losses.advantages.whiten(rewards, mask, shift_mean=False)
  lam_policy = estimator.lam_policy
  if estimator.length_adaptive:
    lam_policy = losses.advantages.length_adaptive_lambda(mask.sum(-1), alpha=estimator.length_adaptive)
  discount, lam_critic = estimator.discount, estimator.lam_critic
  advantages, returns = losses.advantages.gae(
    rewards, values, mask, discount=discount, lam=lam_critic, lam_policy=lam_policy
  )
  rows = mask.any(-1).sum()
  mean = functools.partial(losses.aggregate.token_mean, mask=mask)
  per_answer = jnp.where(mask.any(-1), kl.sum(-1), 0).sum() / jnp.maximum(rows, 1)
  metrics = {
    "kl/reference": mean(kl),
    "kl/answer": per_answer,
    "returns/mean": mean(returns),
    "returns/std": jnp.sqrt(mean(jnp.square(returns - mean(returns)))),
    "advantages/std": jnp.sqrt(mean(jnp.square(advantages - mean(advantages)))),
    "value/mean": mean(values),
    "value/explained_variance": losses.value.explained_variance(values, returns, mask),
  }
  if whitening.advantages:
    advantages = losses.advantages.whiten(advantages, mask)
  return advantages, returns, metrics


def estimate(
  scores: np.ndarray,
  old_logprobs: np.ndarray,
  reference_logprobs: np.ndarray,
  values: np.ndarray,
  mask: np.ndarray,
  *,
  kl_coefficient: float,
  kl_penalty: KLPenalty,
  estimator: AdvantageEstimator,
  whitening: Whitening,
) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
  """Computes the advantages and returns of a step's answers.

  Args:
    scores: float32 [P, G], of whole answers.
    old_logprobs: float32 [P, G, Tc], the policy's when the step began.
    reference_logprobs: float32 [P, G, Tc].
    values: float32 [P, G, Tc], the value model's when the step began; index t is before token t.
    mask: bool [P, G, Tc], tokens that count.
    kl_coefficient: β of this step.
    kl_penalty: how the KL is estimated.
    estimator: GAE's numbers.
    whitening: what is whitened.

  Returns:
    (advantages float32 [P, G, Tc]; returns float32 [P, G, Tc]; metrics, of which `kl/answer`, the mean over answers of
    their tokens' KL in nats, is what an adaptive coefficient looks at).
  """
  found = _estimate(
    scores,
    old_logprobs,
    reference_logprobs,
    values,
    mask,
    np.float32(kl_coefficient),
    estimator=estimator,
    whitening=whitening,
    kl_estimator=kl_penalty.estimator,
  )
  advantages, returns, metrics = jax.device_get(found)
  return advantages, returns, {name: float(value) for name, value in metrics.items()}
