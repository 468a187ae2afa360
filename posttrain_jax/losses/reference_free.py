"""Computes losses on comparisons from the policy's own likelihoods, without a reference."""

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
  """Computes the preference term of CPO, which is DPO with a uniform reference.

  loss = −(1 − ε) log σ(βΔ) − ε log σ(−βΔ),   Δ = log π(y_chosen) − log π(y_rejected)

  "Contrastive Preference Optimization" (arXiv:2401.08417). The paper's loss adds the NLL of the chosen answer
  (`losses.supervised.next_token_nll`) with weight 1. Without that term nothing limits the policy's change.

  Args:
    policy_chosen: float [N], log π of the preferred answers, summed over tokens.
    policy_rejected: float [N], log π of the rejected answers, summed over tokens.
    beta: scale of the logits.
    label_smoothing: ε, the expected share of wrong labels (`losses.direct_preference.dpo`).

  Returns:
    [N] losses in at least float32.
  """
  policy_chosen, policy_rejected = _at_least_float32(policy_chosen, policy_rejected)
  return smoothed_logistic(beta * (policy_chosen - policy_rejected), label_smoothing)


def simpo(chosen_mean: chex.Array, rejected_mean: chex.Array, *, beta: chex.Numeric, gamma: chex.Numeric) -> jax.Array:
  """Computes the SimPO loss: length-averaged likelihoods, and a margin.

  loss = −log σ(β (mean_t log π(y_chosen) − mean_t log π(y_rejected)) − γ)

  "SimPO" (arXiv:2405.14734), eq. 6. γ is not multiplied by β; the authors' settings name γ/β.

  Args:
    chosen_mean: float [N], log π of each preferred answer, as the mean over its tokens.
    rejected_mean: float [N], the same for the rejected answers.
    beta: scale of the rewards.
    gamma: γ, the margin by which the chosen reward must be larger.

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
  """Computes the ORPO loss: supervised learning and preferences in one stage.

  loss = NLL(y_chosen) − λ log σ(log odds(y_chosen) − log odds(y_rejected)),
  log odds(y) = log p − log(1 − p),   log p = mean_t log π(y)

  "ORPO" (arXiv:2403.07691), eq. 3, 6 and 7; it starts from a pretrained model. By default the NLL is −chosen_mean, with
  which every answer weighs the same. TRL's NLL is the token mean over the batch's chosen answers, with which long
  answers weigh more; pass it as chosen_nll.

  The odds of a certain answer are infinite. If a mean logprob is above −eps of the dtype, 1 − p is below rounding. The
  odds then use −eps and have no gradient. So loss and gradient are finite at log p = 0.

  Args:
    chosen_mean: float [N], log π of each preferred answer, as the mean over its tokens; at most 0.
    rejected_mean: float [N], the same for the rejected answers.
    weight: λ, weight of the odds-ratio term.
    chosen_nll: a number or float [N] that replaces −chosen_mean; gradients flow into it. None: −chosen_mean.

  Returns:
    [N] losses in at least float32.
  """
  chosen_mean, rejected_mean = _at_least_float32(chosen_mean, rejected_mean)
  nll = -chosen_mean if chosen_nll is None else jnp.asarray(chosen_nll).astype(chosen_mean.dtype)
  ratio_loss = -jax.nn.log_sigmoid(_log_odds(chosen_mean) - _log_odds(rejected_mean))
  return jnp.broadcast_to(nll, ratio_loss.shape) + weight * ratio_loss


def _log_odds(log_p: jax.Array) -> jax.Array:
  below_one = -jnp.finfo(log_p.dtype).eps
  log_p = jnp.where(log_p < below_one, log_p, below_one)
  return log_p - jnp.log(-jnp.expm1(log_p))


def _at_least_float32(*arrays: chex.Array) -> tuple[jax.Array, ...]:
  chex.assert_equal_shape(arrays)
  dtype = masking.at_least_float32(*arrays)
  return tuple(jnp.asarray(x).astype(dtype) for x in arrays)
