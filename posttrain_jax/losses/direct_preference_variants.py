"""More losses on comparisons relative to a frozen reference, each a different function of the two log ratios.

As in `losses.direct_preference`, u = log π(y_chosen) − log π_ref(y_chosen), v the same of the rejected answer,
Δ = u − v. All take summed logprobs [N] of the answers, policy first, then reference (constants), and beta, the weight
of the KL to the reference; all return [N] losses in at least float32.
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
  """Self-play preference optimisation with hard win rates, 1 and 0 (TRL's "sppo_hard").

  loss = (u − 1/(2β))² + (v + 1/(2β))²

  "Self-Play Preference Optimization" (arXiv:2405.00675): each answer's own log ratio goes to a target, so the
  chosen one is held up whatever happens to the other. The paper's η is 1/β.
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
  """Efficient exact optimisation: the reverse KL where DPO (cDPO) has the forward one (TRL's "exo_pair").

  loss = KL(q ‖ p),   q = (σ(βΔ), σ(−βΔ)),   p = (1 − ε, ε)

  "Towards Efficient Exact Optimization of Language Model Alignment" (arXiv:2402.00856), eq. 16. label_smoothing is
  ε, in (0, 1): at 0 the divergence is infinite (TRL silently takes 1e-3 there).
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
  """Noise contrastive alignment on pairs: absolute likelihoods, not only their difference (TRL's "nca_pair").

  loss = −log σ(βu) − ½ log σ(−βu) − ½ log σ(−βv)

  "Noise Contrastive Alignment of Language Models with Explicit Rewards" (arXiv:2402.05369).
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
  """Alignment via optimal transport, paired: the policy's margins should dominate the reference's by quantile.

  d = sort(log π(y_chosen) − log π(y_rejected)) − sort(log π_ref(y_chosen) − log π_ref(y_rejected)),
  loss = −(1 − ε) log σ(βd) − ε log σ(−βd)

  "Distributional Preference Alignment of LLMs via Optimal Transport" (arXiv:2406.05882). It sorts across the batch:
  entry n belongs to the n-th smallest margins, not to comparison n, and splitting a batch changes the loss.
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
  """Alignment via optimal transport, unpaired: chosen rewards should dominate rejected ones by quantile.

  d = sort(u) − sort(v),   loss = −(1 − ε) log σ(βd) − ε log σ(−βd)

  Source and warning as in `aot`: it sorts across the batch. Which answers were compared with which plays no role.
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
  """Anchored preference optimisation, up: for chosen answers that are better than what the policy writes.

  loss = 1 − σ(βu) + σ(βv): makes the chosen answer more and the rejected one less likely.

  "Anchored Preference Optimization and Contrastive Revisions" (arXiv:2408.06266), eq. 7.
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
  """Anchored preference optimisation, down: for chosen answers that are worse than what the policy writes.

  loss = σ(βu) + 1 − σ(βΔ): makes both less likely, the rejected one more so.

  "Anchored Preference Optimization and Contrastive Revisions" (arXiv:2408.06266), eq. 8.
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
  """The log-ratio modulated loss that a language model found: DPO's loss below, an exponential above.

  x = βΔ,   g = σ(x/τ),   loss = −(1 − g) log σ(x) + g exp(−x)

  "Discovering Preference Optimization Algorithms with and for Large Language Models" (arXiv:2406.08414). Not convex:
  wrongly ordered pairs can rest in a local minimum, at x = −.12 for τ = .05. temperature is τ, below 1.
  """
  u, v = log_ratios(policy_chosen, policy_rejected, reference_chosen, reference_rejected)
  logits = beta * (u - v)
  # g exp(−x) as one exponential, of a sum that is never large: far below 0, exp(−x) alone would overflow.
  exponential = jnp.exp(jax.nn.log_sigmoid(logits / temperature) - logits)
  return exponential - jax.nn.sigmoid(-logits / temperature) * jax.nn.log_sigmoid(logits)
