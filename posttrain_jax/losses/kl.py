"""Per-token estimators of KL(learner ‖ reference) from tokens that the learner drew, and the control of its weight.

Estimators from "Approximating KL Divergence" (Schulman, 2020). As a term of the loss, k1 is useless: its gradient is
zero in expectation. It belongs in the reward.
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

  k1 is unbiased with high variance; k2 is biased with a gradient that is right on average on-policy; k3 is unbiased and
  never negative (GRPO's, arXiv:2402.03300, eq. 4), with a gradient that is that of the reverse direction.

  Args:
    learner_logprobs: [B, T]; B stands for any leading axes.
    reference_logprobs: [B, T], constants: no gradient flows into them.
    estimator: "k1", "k2", "k3" or "k3+".
    mask: [B, T], bool or float, not 0 on counted tokens; None: all. Give it where masked logprobs may be infinite or
      NaN.

  Returns:
    [B, T] estimates in nats, in at least float32, 0 where the mask is 0.
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
  """One step of the controller that keeps the KL to the reference at a target.

  β ← β (1 + clip(KL / target − 1, −0.2, 0.2) · samples / horizon)

  "Fine-Tuning Language Models from Human Preferences" (arXiv:1909.08593), section 2.2, with the gain K_β written as
  in its code, samples / horizon, so that it does not depend on how many answers a batch has.

  Args:
    coefficient: β, what one nat of KL costs now.
    kl: the KL just measured, mean over answers of the sum over tokens, in nats.
    target: the KL wanted, in the same unit; more than 0.
    horizon: in how many answers a KL that is off by 20 % or more moves β by 20 %; 10,000 in the paper's code.
    samples: answers since the last call.

  Returns:
    The new β, a scalar in at least float32.
  """
  dtype = masking.at_least_float32(coefficient, kl)
  coefficient, kl = (jnp.asarray(x, dtype) for x in (coefficient, kl))
  return coefficient * (1 + jnp.clip(kl / target - 1, -0.2, 0.2) * samples / horizon)
