"""Computes further losses on comparisons, each another function of the two log ratios.

As in `losses.direct_preference`, u = log π(y_chosen) − log π_ref(y_chosen), v is the same of the rejected answer, and
Δ = u − v. Logprobs of an answer are sums over its counted tokens; those of the frozen reference are constants.
"""

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking
from posttrain_jax.losses.direct_preference import log_ratios, smoothed_logistic


def sppo(
  policy_chosen: chex.Array,
  policy_rejected: chex.Array,
  reference_chosen: chex.Array,
  reference_rejected: chex.Array,
  *,
  beta: chex.Numeric,
) -> jax.Array:
  """Computes the SPPO loss with hard win rates, 1 and 0.

  loss = (u − 1/(2β))² + (v + 1/(2β))²

  "Self-Play Preference Optimization" (arXiv:2405.00675); TRL's "sppo_hard". Each log ratio has its own target, so the
  chosen answer stays likely whatever the rejected one does. The paper's η is 1/β.

  Args:
    policy_chosen: float [N], log π of the preferred answers.
    policy_rejected: float [N], log π of the rejected answers.
    reference_chosen: float [N], log π_ref of the preferred answers; constants.
    reference_rejected: float [N], log π_ref of the rejected answers; constants.
    beta: weight of the KL to the reference.

  Returns:
    [N] losses in at least float32.
  """
  u, v = log_ratios(policy_chosen, policy_rejected, reference_chosen, reference_rejected)
  return jnp.square(u - 0.5 / beta) + jnp.square(v + 0.5 / beta)


def exo(
  policy_chosen: chex.Array,
  policy_rejected: chex.Array,
  reference_chosen: chex.Array,
  reference_rejected: chex.Array,
  *,
  beta: chex.Numeric,
  label_smoothing: chex.Numeric,
) -> jax.Array:
  """Computes the EXO loss, a reverse KL in place of cDPO's forward KL.

  loss = KL(q ‖ p),   q = (σ(βΔ), σ(−βΔ)),   p = (1 − ε, ε)

  "Towards Efficient Exact Optimization of Language Model Alignment" (arXiv:2402.00856), eq. 16; TRL's "exo_pair".

  Args:
    policy_chosen: float [N], log π of the preferred answers.
    policy_rejected: float [N], log π of the rejected answers.
    reference_chosen: float [N], log π_ref of the preferred answers; constants.
    reference_rejected: float [N], log π_ref of the rejected answers; constants.
    beta: weight of the KL to the reference.
    label_smoothing: ε, in (0, 1). At 0 the divergence is infinite; TRL silently replaces 0 by 1e-3.

  Returns:
    [N] losses in at least float32.
  """
  u, v = log_ratios(policy_chosen, policy_rejected, reference_chosen, reference_rejected)
  logits = beta * (u - v)
  chosen = jax.nn.log_sigmoid(logits) - jnp.log1p(-label_smoothing)
  rejected = jax.nn.log_sigmoid(-logits) - jnp.log(label_smoothing)
  return jax.nn.sigmoid(logits) * chosen + jax.nn.sigmoid(-logits) * rejected


def nca(
  policy_chosen: chex.Array,
  policy_rejected: chex.Array,
  reference_chosen: chex.Array,
  reference_rejected: chex.Array,
  *,
  beta: chex.Numeric,
) -> jax.Array:
  """Computes the NCA loss on pairs, which uses both likelihoods and not only their difference.

  loss = −log σ(βu) − ½ log σ(−βu) − ½ log σ(−βv)

  "Noise Contrastive Alignment of Language Models with Explicit Rewards" (arXiv:2402.05369); TRL's "nca_pair".

  Args:
    policy_chosen: float [N], log π of the preferred answers.
    policy_rejected: float [N], log π of the rejected answers.
    reference_chosen: float [N], log π_ref of the preferred answers; constants.
    reference_rejected: float [N], log π_ref of the rejected answers; constants.
    beta: weight of the KL to the reference.

  Returns:
    [N] losses in at least float32.
  """
  u, v = log_ratios(policy_chosen, policy_rejected, reference_chosen, reference_rejected)
  return -jax.nn.log_sigmoid(beta * u) - (jax.nn.log_sigmoid(-beta * u) + jax.nn.log_sigmoid(-beta * v)) / 2


def aot(
  policy_chosen: chex.Array,
  policy_rejected: chex.Array,
  reference_chosen: chex.Array,
  reference_rejected: chex.Array,
  *,
  beta: chex.Numeric,
  label_smoothing: chex.Numeric = 0.0,
) -> jax.Array:
  """Computes the paired AOT loss: the policy's margins should exceed the reference's by quantile.

  d = sort(log π(y_chosen) − log π(y_rejected)) − sort(log π_ref(y_chosen) − log π_ref(y_rejected)),
  loss = −(1 − ε) log σ(βd) − ε log σ(−βd)

  "Distributional Preference Alignment of LLMs via Optimal Transport" (arXiv:2406.05882). The loss sorts across the
  batch: entry n belongs to the n-th smallest margins, not to comparison n. So splitting a batch changes the loss.

  Args:
    policy_chosen: float [N], log π of the preferred answers.
    policy_rejected: float [N], log π of the rejected answers.
    reference_chosen: float [N], log π_ref of the preferred answers; constants.
    reference_rejected: float [N], log π_ref of the rejected answers; constants.
    beta: weight of the KL to the reference.
    label_smoothing: ε, the expected share of wrong labels.

  Returns:
    [N] losses in at least float32, in the order of the sorted margins.

  Raises:
    AssertionError: if the arguments have another rank than 1 or different shapes.
  """
  inputs = [policy_chosen, policy_rejected, reference_chosen, reference_rejected]
  chex.assert_rank(inputs, 1)
  chex.assert_equal_shape(inputs)
  dtype = masking.at_least_float32(*inputs)
  chosen, rejected, reference_chosen, reference_rejected = (jnp.asarray(x).astype(dtype) for x in inputs)
  reference = jax.lax.stop_gradient(reference_chosen - reference_rejected)
  return smoothed_logistic(beta * (jnp.sort(chosen - rejected) - jnp.sort(reference)), label_smoothing)


def aot_unpaired(
  policy_chosen: chex.Array,
  policy_rejected: chex.Array,
  reference_chosen: chex.Array,
  reference_rejected: chex.Array,
  *,
  beta: chex.Numeric,
  label_smoothing: chex.Numeric = 0.0,
) -> jax.Array:
  """Computes the unpaired AOT loss: chosen answers should exceed rejected ones by quantile.

  d = sort(u) − sort(v),   loss = −(1 − ε) log σ(βd) − ε log σ(−βd)

  Source as in `aot`. This loss sorts across the batch too, so splitting a batch changes it. It does not use which
  answers were compared with each other.

  Args:
    policy_chosen: float [N], log π of the preferred answers.
    policy_rejected: float [N], log π of the rejected answers.
    reference_chosen: float [N], log π_ref of the preferred answers; constants.
    reference_rejected: float [N], log π_ref of the rejected answers; constants.
    beta: weight of the KL to the reference.
    label_smoothing: ε, the expected share of wrong labels.

  Returns:
    [N] losses in at least float32, in the order of the sorted log ratios.

  Raises:
    AssertionError: if the arguments have another rank than 1 or different shapes.
  """
  chex.assert_rank([policy_chosen, policy_rejected], 1)
  u, v = log_ratios(policy_chosen, policy_rejected, reference_chosen, reference_rejected)
  return smoothed_logistic(beta * (jnp.sort(u) - jnp.sort(v)), label_smoothing)


def apo_zero(
  policy_chosen: chex.Array,
  policy_rejected: chex.Array,
  reference_chosen: chex.Array,
  reference_rejected: chex.Array,
  *,
  beta: chex.Numeric,
) -> jax.Array:
  """Computes the APO-zero loss, for chosen answers that are better than the policy's own.

  loss = 1 − σ(βu) + σ(βv)

  "Anchored Preference Optimization and Contrastive Revisions" (arXiv:2408.06266), eq. 7. The loss makes the chosen
  answer more likely and the rejected one less likely.

  Args:
    policy_chosen: float [N], log π of the preferred answers.
    policy_rejected: float [N], log π of the rejected answers.
    reference_chosen: float [N], log π_ref of the preferred answers; constants.
    reference_rejected: float [N], log π_ref of the rejected answers; constants.
    beta: weight of the KL to the reference.

  Returns:
    [N] losses in at least float32.
  """
  u, v = log_ratios(policy_chosen, policy_rejected, reference_chosen, reference_rejected)
  return jax.nn.sigmoid(-beta * u) + jax.nn.sigmoid(beta * v)


def apo_down(
  policy_chosen: chex.Array,
  policy_rejected: chex.Array,
  reference_chosen: chex.Array,
  reference_rejected: chex.Array,
  *,
  beta: chex.Numeric,
) -> jax.Array:
  """Computes the APO-down loss, for chosen answers that are worse than the policy's own.

  loss = σ(βu) + 1 − σ(βΔ)

  "Anchored Preference Optimization and Contrastive Revisions" (arXiv:2408.06266), eq. 8. The loss makes both answers
  less likely, the rejected one more so.

  Args:
    policy_chosen: float [N], log π of the preferred answers.
    policy_rejected: float [N], log π of the rejected answers.
    reference_chosen: float [N], log π_ref of the preferred answers; constants.
    reference_rejected: float [N], log π_ref of the rejected answers; constants.
    beta: weight of the KL to the reference.

  Returns:
    [N] losses in at least float32.
  """
  u, v = log_ratios(policy_chosen, policy_rejected, reference_chosen, reference_rejected)
  return jax.nn.sigmoid(beta * u) + jax.nn.sigmoid(-beta * (u - v))


def discopop(
  policy_chosen: chex.Array,
  policy_rejected: chex.Array,
  reference_chosen: chex.Array,
  reference_rejected: chex.Array,
  *,
  beta: chex.Numeric,
  temperature: chex.Numeric = 0.05,
) -> jax.Array:
  """Computes the DiscoPOP loss (log-ratio modulated loss), which a language model found.

  x = βΔ,   g = σ(x/τ),   loss = −(1 − g) log σ(x) + g exp(−x)

  "Discovering Preference Optimization Algorithms with and for Large Language Models" (arXiv:2406.08414). It is about
  DPO's loss for x < 0 and an exponential for x > 0. It is not convex: pairs in the wrong order can stay in a local
  minimum, at x = −.12 for τ = .05.

  Args:
    policy_chosen: float [N], log π of the preferred answers.
    policy_rejected: float [N], log π of the rejected answers.
    reference_chosen: float [N], log π_ref of the preferred answers; constants.
    reference_rejected: float [N], log π_ref of the rejected answers; constants.
    beta: weight of the KL to the reference.
    temperature: τ, below 1.

  Returns:
    [N] losses in at least float32.
  """
  u, v = log_ratios(policy_chosen, policy_rejected, reference_chosen, reference_rejected)
  logits = beta * (u - v)
  # One exponential of a sum that is never large computes g exp(−x). For x far below 0, exp(−x) alone would overflow.
  exponential = jnp.exp(jax.nn.log_sigmoid(logits / temperature) - logits)
  return exponential - jax.nn.sigmoid(-logits / temperature) * jax.nn.log_sigmoid(logits)
