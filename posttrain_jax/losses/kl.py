"""Estimates KL(learner ‖ reference) from drawn tokens, and controls its weight.

The estimators are those of "Approximating KL Divergence" (Schulman, 2020). k1 is useless as a term of the loss, because
the expectation of its gradient is zero; use it in the reward.
"""

from typing import Literal

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking


def kl_estimate(
  learner_logprobs: chex.Array,
  reference_logprobs: chex.Array,
  *,
  estimator: Literal["k1", "k2", "k3", "k3+"],
  mask: chex.Array | None = None,
) -> jax.Array:
  """Estimates KL(learner ‖ reference) token by token.

  With d = learner − reference:  k1 = d,  k2 = d²/2,  k3 = exp(−d) − 1 + d,  and k3+ has k3's value and k2's gradient.

  "Approximating KL Divergence" (Schulman, 2020). k1 is unbiased and has high variance. k2 is biased, but on-policy its
  gradient is unbiased. k3 is unbiased and never negative (GRPO, arXiv:2402.03300, eq. 4), but its gradient is that of
  the reverse direction, KL(reference ‖ learner).

  Args:
    learner_logprobs: float [B, T]; B stands for any leading axes.
    reference_logprobs: float [B, T], constants: no gradient flows into them.
    estimator: "k1", "k2", "k3" or "k3+".
    mask: [B, T], bool or float, not 0 on counted tokens; None: all are counted. Give it if masked logprobs may be
      infinite or NaN.

  Returns:
    [B, T] estimates in nats, in at least float32, 0 where the mask is 0.

  Raises:
    ValueError: if the estimator is none of these four.
  """
  mask = jnp.ones(jnp.shape(learner_logprobs), bool) if mask is None else mask
  mask, learner_logprobs, reference_logprobs = masking.counted(mask, learner_logprobs, reference_logprobs)
  d = learner_logprobs - jax.lax.stop_gradient(reference_logprobs)
  match estimator:
    case "k1":
      estimate = d
    case "k2":
      estimate = jnp.square(d) / 2
    case "k3":
      estimate = jnp.expm1(-d) + d
    case "k3+":
      k2 = jnp.square(d) / 2
      estimate = jax.lax.stop_gradient(jnp.expm1(-d) + d - k2) + k2
    case _:
      raise ValueError(f"estimator: expected 'k1', 'k2', 'k3' or 'k3+', found {estimator!r}")
  return jnp.where(mask, estimate, 0)


def adaptive_coefficient(
  coefficient: chex.Numeric,
  kl: chex.Numeric,
  *,
  target: chex.Numeric,
  horizon: chex.Numeric,
  samples: chex.Numeric,
) -> jax.Array:
  """Updates the coefficient that keeps the KL to the reference at a target.

  β ← β (1 + clip(KL / target − 1, −0.2, 0.2) · samples / horizon)

  "Fine-Tuning Language Models from Human Preferences" (arXiv:1909.08593), section 2.2. The gain K_β is samples /
  horizon, as in the paper's code, so it does not depend on the number of answers in a batch.

  Args:
    coefficient: β, the current cost of one nat of KL; a scalar.
    kl: the measured KL in nats: mean over answers of the sum over tokens; a scalar.
    target: the wanted KL, in the same unit; more than 0.
    horizon: number of answers in which β changes by 20 % if the KL is off by 20 % or more; 10,000 in the paper's code.
    samples: number of answers since the last call.

  Returns:
    The new β, a scalar in at least float32.
  """
  dtype = masking.at_least_float32(coefficient, kl)
  coefficient, kl = (jnp.asarray(x, dtype) for x in (coefficient, kl))
  return coefficient * (1 + jnp.clip(kl / target - 1, -0.2, 0.2) * samples / horizon)
