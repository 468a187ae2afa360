"""Estimates KL(learner ‖ reference) from drawn tokens, and controls its weight.

The estimators are those of "Approximating KL Divergence" (Schulman, 2020). k1 is useless as a term of the loss, because
the expectation of its gradient is zero; use it in the reward.
"""

import math
from typing import Literal

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking

# The largest gradient of a token's estimate. e^20, at which ratios are cut, would be far too large here: a KL term has
# no clip, so a single token would fill the whole gradient after it is clipped by its norm.
LARGEST_SLOPE = 10.0


def kl_estimate(
  learner_logprobs: chex.Array,
  reference_logprobs: chex.Array,
  *,
  estimator: Literal["k1", "k2", "k3", "k3+"],
  mask: chex.Array | None = None,
  slope: float = LARGEST_SLOPE,
) -> jax.Array:
  """Estimates KL(learner ‖ reference) token by token.

  With d = learner − reference:  k1 = d,  k2 = d²/2,  k3 = exp(−d) − 1 + d,  and k3+ has k3's value and k2's gradient.

  "Approximating KL Divergence" (Schulman, 2020). k1 is unbiased and has high variance. k2 is biased, but on-policy its
  gradient is unbiased. k3 is unbiased and never negative (GRPO, arXiv:2402.03300, eq. 4), but its gradient is that of
  the reverse direction, KL(reference ‖ learner).

  Deviation: no token's gradient is larger than `slope`, 10. Where the formula's gradient would be larger, the estimate
  goes on as a straight line of that slope, without a step in value or gradient. This is so for k2 and the gradient of
  k3+ at |d| > 10, and for k3 and the value of k3+ at d < −log 11 = −2.4. So a token far from the reference is still
  pulled back, and cannot make an update infinite or fill it alone. Nearer to the reference no bit differs from the
  formulas.

  Args:
    learner_logprobs: float [B, T]; B stands for any leading axes.
    reference_logprobs: float [B, T], constants: no gradient flows into them.
    estimator: "k1", "k2", "k3" or "k3+".
    mask: [B, T], bool or float, not 0 on counted tokens; None: all are counted. Give it if masked logprobs may be
      infinite or NaN.
    slope: the largest gradient of a token's estimate. A larger one is for measuring only.

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
      estimate = _k2(d, slope)
    case "k3":
      estimate = _k3(d, slope)
    case "k3+":
      k2 = _k2(d, slope)
      estimate = jax.lax.stop_gradient(_k3(d, slope) - k2) + k2
    case _:
      raise ValueError(f"estimator: expected 'k1', 'k2', 'k3' or 'k3+', found {estimator!r}")
  return jnp.where(mask, estimate, 0)


def _k2(d: jax.Array, slope: float) -> jax.Array:
  """Computes d²/2, and a line beyond |d| = slope."""
  far = jnp.abs(d) > slope
  near = jnp.where(far, 0, d)  # what is not chosen below must not overflow either
  return jnp.where(far, slope * (jnp.abs(d) - slope / 2), jnp.square(near) / 2)


def _k3(d: jax.Array, slope: float) -> jax.Array:
  """Computes exp(−d) − 1 + d, and a line beyond the largest slope.

  It is a line where exp(−d) − 1 is larger than `slope`.
  """
  edge = -math.log1p(slope)
  far = d < edge
  near = jnp.where(far, 0, d)
  return jnp.where(far, (slope + edge) + slope * (edge - d), jnp.expm1(-near) + near)


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
