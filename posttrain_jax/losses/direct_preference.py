"""Computes DPO and the losses closest to it, relative to a frozen reference.

u = log π(y_chosen) − log π_ref(y_chosen), v is the same of the rejected answer, and Δ = u − v. Arguments are logprobs
of whole answers given their prompt: sums over the counted tokens. The reference's logprobs are constants: no gradient
flows into them.
"""

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking


def implicit_reward(policy: chex.Array, reference: chex.Array, *, beta: chex.Numeric) -> jax.Array:
  """Computes the reward for which the policy is optimal, up to a constant per prompt.

  r = β (log π − log π_ref)

  DPO (arXiv:2305.18290), eq. 5. It serves metrics: the margins, and the accuracy, which is the share of comparisons
  that the reward orders correctly.

  Args:
    policy: float [N], log π of the answers.
    reference: float [N], log π_ref of the same answers; constants.
    beta: weight of the KL to the reference.

  Returns:
    [N] rewards in at least float32.
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
  """Computes the DPO loss; with label smoothing, that of conservative DPO.

  loss = −(1 − ε) log σ(βΔ) − ε log σ(−βΔ)

  "Direct Preference Optimization" (arXiv:2305.18290), eq. 7; cDPO: Mitchell, "A note on DPO with noisy preferences"
  (2023). It is TRL's "sigmoid", whose current versions do not smooth, and OpenRLHF's DPO loss, which does.

  Args:
    policy_chosen: float [N], log π of the preferred answers.
    policy_rejected: float [N], log π of the rejected answers.
    reference_chosen: float [N], log π_ref of the preferred answers; constants.
    reference_rejected: float [N], log π_ref of the rejected answers; constants.
    beta: weight of the KL to the reference.
    label_smoothing: ε, the expected share of wrong labels. With ε > 0 the minimum is at σ(βΔ) = 1 − ε, so Δ is not
      pushed to infinity.

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
  """Computes the loss of robust DPO, for labels of which a known share is flipped.

  loss = [−(1 − ε) log σ(βΔ) + ε log σ(−βΔ)] / (1 − 2ε)

  "Provably Robust DPO" (arXiv:2403.00409). The loss is an unbiased estimate of the DPO loss on clean labels. Unlike
  cDPO it keeps DPO's minimiser; its variance grows with ε.

  Args:
    policy_chosen: float [N], log π of the preferred answers.
    policy_rejected: float [N], log π of the rejected answers.
    reference_chosen: float [N], log π_ref of the preferred answers; constants.
    reference_rejected: float [N], log π_ref of the rejected answers; constants.
    beta: weight of the KL to the reference.
    label_smoothing: ε, the share of flipped labels, 0 ≤ ε < ½.

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
  """Computes the loss of DPO-Positive, which penalises chosen answers that become less likely.

  loss = −log σ(β (Δ − λ max(0, −u)))

  "Smaug" (arXiv:2402.13228), eq. 3, with λ = 50. DPO can lower both likelihoods, as long as the rejected answer's falls
  faster; this loss penalises that. An NLL term (Llama 3) is different: it acts on every answer and outside the sigmoid.

  Args:
    policy_chosen: float [N], log π of the preferred answers.
    policy_rejected: float [N], log π of the rejected answers.
    reference_chosen: float [N], log π_ref of the preferred answers; constants.
    reference_rejected: float [N], log π_ref of the rejected answers; constants.
    beta: weight of the KL to the reference.
    penalty: λ, weight of the penalty.

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
  """Computes the IPO loss: the squared distance of Δ from 1/(2τ).

  loss = (Δ − 1/(2τ))²

  "A General Theoretical Paradigm to Understand Learning from Human Preferences" (arXiv:2310.12036), eq. 17. The loss
  regularises even if labels never disagree. With sums of token logprobs, as in the paper and in OpenRLHF, Δ grows with
  the answers' length but its target does not. TRL uses means over tokens: for its convention pass means for all four.

  Args:
    policy_chosen: float [N], log π of the preferred answers.
    policy_rejected: float [N], log π of the rejected answers.
    reference_chosen: float [N], log π_ref of the preferred answers; constants.
    reference_rejected: float [N], log π_ref of the rejected answers; constants.
    tau: τ, the weight of the KL to the reference; other libraries call it beta.

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
  """Computes the hinge loss, which has no gradient once the implicit rewards differ by 1.

  loss = max(0, 1 − βΔ)

  SLiC-HF (arXiv:2305.10425), relative to a reference as in RSO (arXiv:2309.06657).

  Args:
    policy_chosen: float [N], log π of the preferred answers.
    policy_rejected: float [N], log π of the rejected answers.
    reference_chosen: float [N], log π_ref of the preferred answers; constants.
    reference_rejected: float [N], log π_ref of the rejected answers; constants.
    beta: weight of the KL to the reference; 1/β is the margin of Δ.

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
  """Computes the KTO loss of single answers, labelled desirable or undesirable.

  loss = w_d (1 − σ(β(u − z))) if desirable, else w_u (1 − σ(β(z − u))),   z = max(0, kl)

  "KTO" (Kahneman-Tversky optimisation, arXiv:2402.01306), eq. 8. Deviation: z is at least 0 here. The gradient vanishes
  both far above and far below z, so very easy and hopeless answers teach nothing.

  Args:
    policy: float [N], log π of the answers.
    reference: float [N], log π_ref of the same answers; constants.
    desirable: bool [N], True for desirable answers.
    kl: a number or float [N], an estimate of KL(π ‖ π_ref): the mean of log π − log π_ref over answers paired with the
      wrong prompts; a constant.
    beta: risk aversion; weight of the KL to the reference.
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
  """Computes log π − log π_ref in at least float32; the reference is a constant."""
  chex.assert_equal_shape([policy, reference])
  dtype = masking.at_least_float32(policy, reference)
  return jnp.asarray(policy).astype(dtype) - jax.lax.stop_gradient(jnp.asarray(reference).astype(dtype))


def log_ratios(
  policy_chosen: chex.Array, policy_rejected: chex.Array, reference_chosen: chex.Array, reference_rejected: chex.Array
) -> tuple[jax.Array, jax.Array]:
  """Computes (u, v), the log ratios of the chosen and the rejected answers."""
  chex.assert_equal_shape([policy_chosen, policy_rejected, reference_chosen, reference_rejected])
  return log_ratio(policy_chosen, reference_chosen), log_ratio(policy_rejected, reference_rejected)


def smoothed_logistic(logits: chex.Array, label_smoothing: chex.Numeric) -> jax.Array:
  """Computes the cross-entropy of σ(x) with the label 1 − ε.

  loss = −(1 − ε) log σ(x) − ε log σ(−x)

  Args:
    logits: x, float of any shape.
    label_smoothing: ε.
  """
  return -(1 - label_smoothing) * jax.nn.log_sigmoid(logits) - label_smoothing * jax.nn.log_sigmoid(-logits)
