"""Direct preference optimisation and its closest kin: a policy learns from comparisons relative to a frozen reference.

Written below with u = log π(y_chosen) − log π_ref(y_chosen), v the same of the rejected answer, and Δ = u − v.
Arguments are logprobs of whole answers given their prompt: sums over the counted tokens. What comes from the reference
is a constant: no gradient flows into it.
"""

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking


def implicit_reward(policy: chex.Array, reference: chex.Array, *, beta: chex.Numeric) -> jax.Array:
  """The reward for which the policy is optimal, up to a constant per prompt: β (log π − log π_ref).

  DPO (arXiv:2305.18290), eq. 5. For metrics: margins, and accuracy as the share of comparisons it orders rightly.

  Args:
    policy: [N], log π of the answers.
    reference: [N], log π_ref of the same; constants.
    beta: weight of the KL to the reference.

  Returns:
    [N] in at least float32.
  """
  return beta * log_ratio(policy, reference)


def dpo(
  policy_chosen: chex.Array,
  policy_rejected: chex.Array,
  reference_chosen: chex.Array,
  reference_rejected: chex.Array,
  *,
  beta: chex.Numeric,
  label_smoothing: chex.Numeric = 0.0,
) -> jax.Array:
  """Direct preference optimisation; with label smoothing, conservative DPO.

  loss = −(1 − ε) log σ(βΔ) − ε log σ(−βΔ)

  "Direct Preference Optimization" (arXiv:2305.18290), eq. 7; cDPO: Mitchell, "A note on DPO with noisy preferences"
  (2023). TRL's "sigmoid", whose current versions do not smooth here; OpenRLHF's DPO loss, which does.

  Args:
    policy_chosen: [N], log π of the preferred answers.
    policy_rejected: [N], log π of the others.
    reference_chosen: [N], log π_ref of the preferred answers; constants.
    reference_rejected: [N], log π_ref of the others; constants.
    beta: weight of the KL to the reference.
    label_smoothing: ε, the share of comparisons believed to be the wrong way round. The loss then has its minimum at
      σ(βΔ) = 1 − ε instead of pushing Δ to infinity.

  Returns:
    [N] losses in at least float32.
  """
  u, v = log_ratios(policy_chosen, policy_rejected, reference_chosen, reference_rejected)
  return smoothed_logistic(beta * (u - v), label_smoothing)


def robust(
  policy_chosen: chex.Array,
  policy_rejected: chex.Array,
  reference_chosen: chex.Array,
  reference_rejected: chex.Array,
  *,
  beta: chex.Numeric,
  label_smoothing: chex.Numeric,
) -> jax.Array:
  """Robust DPO: an unbiased estimate of the DPO loss on clean labels, from labels of which a share ε is flipped.

  loss = [−(1 − ε) log σ(βΔ) + ε log σ(−βΔ)] / (1 − 2ε)

  "Provably Robust DPO" (arXiv:2403.00409). Unlike cDPO it keeps DPO's minimiser; its variance grows with ε.

  Args: as `dpo`, with 0 ≤ label_smoothing < ½.

  Returns:
    [N] losses in at least float32.
  """
  u, v = log_ratios(policy_chosen, policy_rejected, reference_chosen, reference_rejected)
  as_labelled, flipped = jax.nn.log_sigmoid(beta * (u - v)), jax.nn.log_sigmoid(beta * (v - u))
  return (label_smoothing * flipped - (1 - label_smoothing) * as_labelled) / (1 - 2 * label_smoothing)


def dpop(
  policy_chosen: chex.Array,
  policy_rejected: chex.Array,
  reference_chosen: chex.Array,
  reference_rejected: chex.Array,
  *,
  beta: chex.Numeric,
  penalty: chex.Numeric,
) -> jax.Array:
  """DPO-Positive: DPO with a penalty on a chosen answer that becomes less likely than under the reference.

  loss = −log σ(β (Δ − λ max(0, −u)))

  "Smaug" (arXiv:2402.13228), eq. 3, with λ = 50. DPO is content with lowering both likelihoods, if only the rejected
  one falls faster; this is not. It is no NLL term (Llama 3's): that acts on every answer, and outside the sigmoid.

  Args: as `dpo`; penalty is λ.

  Returns:
    [N] losses in at least float32.
  """
  u, v = log_ratios(policy_chosen, policy_rejected, reference_chosen, reference_rejected)
  return -jax.nn.log_sigmoid(beta * (u - v - penalty * jax.nn.relu(-u)))


def ipo(
  policy_chosen: chex.Array,
  policy_rejected: chex.Array,
  reference_chosen: chex.Array,
  reference_rejected: chex.Array,
  *,
  tau: chex.Numeric,
) -> jax.Array:
  """Identity preference optimisation: regression of Δ onto 1/(2τ), which regularises even where labels never disagree.

  loss = (Δ − 1/(2τ))²

  "A General Theoretical Paradigm to Understand Learning from Human Preferences" (arXiv:2310.12036), eq. 17. On sums of
  token logprobs, as in the paper and in OpenRLHF, Δ grows with length while its target does not. TRL's convention is
  length-averaged: pass means over tokens instead of sums, all four.

  Args: as `dpo`; tau is τ, the weight of the KL to the reference (the peers' beta).

  Returns:
    [N] losses in at least float32.
  """
  u, v = log_ratios(policy_chosen, policy_rejected, reference_chosen, reference_rejected)
  return jnp.square(u - v - 1 / (2 * tau))


def hinge(
  policy_chosen: chex.Array,
  policy_rejected: chex.Array,
  reference_chosen: chex.Array,
  reference_rejected: chex.Array,
  *,
  beta: chex.Numeric,
) -> jax.Array:
  """Hinge loss: no gradient once the implicit rewards differ by 1.

  loss = max(0, 1 − βΔ)

  SLiC-HF (arXiv:2305.10425), relative to a reference as in RSO (arXiv:2309.06657).

  Args: as `dpo`; 1/beta is the margin.

  Returns:
    [N] losses in at least float32.
  """
  u, v = log_ratios(policy_chosen, policy_rejected, reference_chosen, reference_rejected)
  return jax.nn.relu(1 - beta * (u - v))


def kto(
  policy: chex.Array,
  reference: chex.Array,
  desirable: chex.Array,
  kl: chex.Numeric,
  *,
  beta: chex.Numeric,
  desirable_weight: chex.Numeric = 1.0,
  undesirable_weight: chex.Numeric = 1.0,
) -> jax.Array:
  """Kahneman-Tversky optimisation: answers judged one by one, against what the policy gains on average.

  loss = w_d (1 − σ(β(u − z))) if desirable, else w_u (1 − σ(β(z − u))),   z = max(0, kl)

  "KTO" (arXiv:2402.01306), eq. 8; z is floored here. Both far above and far below z the gradient vanishes: an answer
  that is easy, or hopeless, teaches nothing.

  Args:
    policy: [N], log π of the answers.
    reference: [N], log π_ref of the same; constants.
    desirable: bool [N], whether an answer is one.
    kl: a number or [N], estimate of KL(π ‖ π_ref): the mean of log π − log π_ref over answers paired with the wrong
      prompts; a constant.
    beta: aversion to risk; weight of the KL to the reference.
    desirable_weight: w_d; the paper keeps w_d · (number of desirable) a little above w_u · (number of undesirable).
    undesirable_weight: w_u.

  Returns:
    [N] losses in at least float32.
  """
  chex.assert_equal_shape([policy, reference, desirable])
  u = log_ratio(policy, reference)
  z = jnp.broadcast_to(jax.lax.stop_gradient(jax.nn.relu(jnp.asarray(kl).astype(u.dtype))), u.shape)
  sign = jnp.where(jnp.asarray(desirable).astype(bool), 1, -1).astype(u.dtype)
  weight = jnp.where(sign > 0, desirable_weight, undesirable_weight).astype(u.dtype)
  return weight * jax.nn.sigmoid(-sign * beta * (u - z))


def log_ratio(policy: chex.Array, reference: chex.Array) -> jax.Array:
  """log π − log π_ref in at least float32, the reference a constant."""
  chex.assert_equal_shape([policy, reference])
  dtype = masking.at_least_float32(policy, reference)
  return jnp.asarray(policy).astype(dtype) - jax.lax.stop_gradient(jnp.asarray(reference).astype(dtype))


def log_ratios(policy_chosen, policy_rejected, reference_chosen, reference_rejected) -> tuple[jax.Array, jax.Array]:
  """(u, v), the log ratios of the chosen and the rejected answers."""
  chex.assert_equal_shape([policy_chosen, policy_rejected, reference_chosen, reference_rejected])
  return log_ratio(policy_chosen, reference_chosen), log_ratio(policy_rejected, reference_rejected)


def smoothed_logistic(logits: chex.Array, label_smoothing: chex.Numeric) -> jax.Array:
  """Cross-entropy of σ(logits) against the label 1 − ε: −(1 − ε) log σ(x) − ε log σ(−x)."""
  return -(1 - label_smoothing) * jax.nn.log_sigmoid(logits) - label_smoothing * jax.nn.log_sigmoid(-logits)
