"""Computes losses that train a scalar reward to order answers as people do.

Only differences of rewards enter the Bradley-Terry model, so it does not determine the level of the rewards.
`centering` keeps the level near 0, so rewards of different prompts are on one scale.
"""

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking


def bradley_terry(
  chosen: chex.Array,
  rejected: chex.Array,
  *,
  margin: chex.Numeric | None = None,
  centering: chex.Numeric = 0.0,
  probability: chex.Numeric | None = None,
) -> jax.Array:
  """Computes the negative log-likelihood of a comparison under the Bradley-Terry model.

  loss = −log σ(r_chosen − r_rejected − m) + η (r_chosen + r_rejected)²

  With a probability p that the preferred answer is the better one, −log σ(d) becomes −p log σ(d) − (1 − p) log σ(−d),
  d the difference less the margin. It is least at σ(d) = p, so what is unsure stays so.

  Margin: Llama 2 (arXiv:2307.09288), eq. 2; centering: "Helping or Herding?" (arXiv:2312.09244), η = .01; probability:
  the soft targets of Constitutional AI (arXiv:2212.08073, section 4.1), and conservative DPO's label noise.

  Args:
    chosen: float [N], rewards of the preferred answers.
    rejected: float [N], rewards of the rejected answers.
    margin: m, a number or float [N]: how much larger the preferred answer's reward must be; a constant. None: 0.
    centering: η, weight of the term that pulls the mean of a pair's rewards to 0.
    probability: p, a number or float [N] in [0, 1]; a constant. None: 1.

  Returns:
    [N] losses in at least float32.
  """
  chex.assert_equal_shape([chosen, rejected])
  dtype = masking.at_least_float32(chosen, rejected)
  chosen, rejected = jnp.asarray(chosen).astype(dtype), jnp.asarray(rejected).astype(dtype)
  return _pair_loss(chosen - rejected, chosen + rejected, margin, centering, probability)


def ranked_bradley_terry(
  rewards: chex.Array,
  preferred: chex.Array,
  *,
  margin: chex.Array | None = None,
  centering: chex.Numeric = 0.0,
  probability: chex.Array | None = None,
) -> jax.Array:
  """Averages the Bradley-Terry loss over the comparisons among each prompt's K answers.

  loss = 1/|S| Σ_{(i, j) ∈ S} −log σ(r_i − r_j − m_ij) + η (r_i + r_j)²,   S = pairs in which i beats j

  InstructGPT (arXiv:2203.02155), eq. 1. Each answer runs through the model once, and all prompts weigh the same,
  whatever their number of comparisons. With K = 2 the loss is that of `bradley_terry`.

  Args:
    rewards: float [N, K], rewards of the answers; answers in no pair may hold anything, NaN included.
    preferred: [N, K, K], bool or float, not 0 where answer i beats answer j; 0 for ties and padding.
    margin: float [N, K, K], m_ij: how much larger i's reward must be than j's; constants, used only where i beats j.
      None: 0.
    centering: η, as in `bradley_terry`.
    probability: float [N, K, K], as in `bradley_terry`; constants, used only where i beats j. None: 1.

  Returns:
    [N] losses in at least float32. For a prompt without a pair, loss and gradient are 0.
  """
  chex.assert_rank(rewards, 2)
  prompts, answers = jnp.shape(rewards)
  given = [each for each in (preferred, margin, probability) if each is not None]
  chex.assert_shape(given, (prompts, answers, answers))
  preferred = jnp.asarray(preferred).astype(bool)
  rewards = jnp.asarray(rewards).astype(masking.at_least_float32(rewards))
  winner, loser = (jnp.broadcast_to(r, preferred.shape) for r in (rewards[:, :, None], rewards[:, None, :]))
  difference, total = jnp.where(preferred, winner - loser, 0), jnp.where(preferred, winner + loser, 0)
  loss = jnp.where(preferred, _pair_loss(difference, total, margin, centering, probability), 0)
  return masking.divide_or_zero(jnp.sum(loss, axis=(1, 2)), jnp.sum(preferred, axis=(1, 2)))


def _pair_loss(
  difference: jax.Array,
  total: jax.Array,
  margin: chex.Numeric | None,
  centering: chex.Numeric,
  probability: chex.Numeric | None,
) -> jax.Array:
  if margin is not None:
    margin = jax.lax.stop_gradient(jnp.asarray(margin).astype(difference.dtype))
    difference = difference - jnp.broadcast_to(margin, difference.shape)
  loss = -jax.nn.log_sigmoid(difference)
  if probability is not None:
    probability = jax.lax.stop_gradient(jnp.asarray(probability).astype(difference.dtype))
    probability = jnp.broadcast_to(probability, difference.shape)
    loss = probability * loss - (1 - probability) * jax.nn.log_sigmoid(-difference)
  return centering * jnp.square(total) + loss
