"""Losses on comparisons that need no reference model: the policy's own likelihoods of both answers are enough."""

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking
from posttrain_jax.losses.direct_preference import smoothed_logistic


def cpo(
  policy_chosen: chex.Array,
  policy_rejected: chex.Array,
  *,
  beta: chex.Numeric,
  label_smoothing: chex.Numeric = 0.0,
) -> jax.Array:
  """The preference term of contrastive preference optimisation: DPO with a uniform reference.

  loss = −(1 − ε) log σ(βΔ) − ε log σ(−βΔ),   Δ = log π(y_chosen) − log π(y_rejected)

  "Contrastive Preference Optimization" (arXiv:2401.08417), whose loss adds the NLL of the chosen answer
  (`losses.supervised.next_token_nll`), there with weight 1: without it nothing keeps the policy in place.

  Args:
    policy_chosen: [N], log π of the preferred answers, summed over tokens.
    policy_rejected: [N], log π of the others.
    beta: scale of the logits.
    label_smoothing: ε, as in `dpo`.

  Returns:
    [N] losses in at least float32.
  """
  policy_chosen, policy_rejected = _at_least_float32(policy_chosen, policy_rejected)
  return smoothed_logistic(beta * (policy_chosen - policy_rejected), label_smoothing)


def simpo(chosen_mean: chex.Array, rejected_mean: chex.Array, *, beta: chex.Numeric, gamma: chex.Numeric) -> jax.Array:
  """Simple preference optimisation: length-averaged likelihoods, and a margin.

  loss = −log σ(β (mean_t log π(y_chosen) − mean_t log π(y_rejected)) − γ)

  "SimPO" (arXiv:2405.14734), eq. 6. γ is not multiplied by β; the authors' settings name γ/β.

  Args:
    chosen_mean: [N], mean over its tokens of log π of each preferred answer.
    rejected_mean: [N], the same of the others.
    beta: scale of the rewards.
    gamma: by how much the chosen reward must lead.

  Returns:
    [N] losses in at least float32.
  """
  chosen_mean, rejected_mean = _at_least_float32(chosen_mean, rejected_mean)
  return -jax.nn.log_sigmoid(beta * (chosen_mean - rejected_mean) - gamma)


def orpo(
  chosen_mean: chex.Array,
  rejected_mean: chex.Array,
  *,
  weight: chex.Numeric,
  chosen_nll: chex.Numeric | None = None,
) -> jax.Array:
  """Odds-ratio preference optimisation: supervised learning and preferences in one stage, on a pretrained model.

  loss = NLL(y_chosen) − λ log σ(log odds(y_chosen) − log odds(y_rejected)),
  log odds(y) = log p − log(1 − p),   log p = mean_t log π(y)

  "ORPO" (arXiv:2403.07691), eq. 3, 6 and 7. The NLL is −chosen_mean, every answer weighing the same, unless the caller
  gives another: TRL's is the token mean over the batch's chosen answers, where long answers weigh more.

  The odds of a certain answer are infinite. A mean logprob above −eps of the dtype (at which 1 − p is below rounding)
  counts as −eps in the odds, with no gradient through them; so loss and gradient are finite at log p = 0.

  Args:
    chosen_mean: [N], mean over its tokens of log π of each preferred answer, at most 0.
    rejected_mean: [N], the same of the others.
    weight: λ of the odds-ratio term.
    chosen_nll: [N] or a number that replaces −chosen_mean; gradients flow into it.

  Returns:
    [N] losses in at least float32.
  """
  chosen_mean, rejected_mean = _at_least_float32(chosen_mean, rejected_mean)
  nll = -chosen_mean if chosen_nll is None else jnp.asarray(chosen_nll).astype(chosen_mean.dtype)
  ratio_loss = -jax.nn.log_sigmoid(_log_odds(chosen_mean) - _log_odds(rejected_mean))
  return jnp.broadcast_to(nll, ratio_loss.shape) + weight * ratio_loss


def _log_odds(log_p) -> jax.Array:
  below_one = -jnp.finfo(log_p.dtype).eps
  log_p = jnp.where(log_p < below_one, log_p, below_one)
  return log_p - jnp.log(-jnp.expm1(log_p))


def _at_least_float32(*arrays) -> tuple[jax.Array, ...]:
  chex.assert_equal_shape(arrays)
  dtype = masking.at_least_float32(*arrays)
  return tuple(jnp.asarray(x).astype(dtype) for x in arrays)
