"""Computes weights for tokens drawn from another distribution than the policy whose gradient is taken."""

from typing import Literal

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking
from posttrain_jax.losses.policy_ratios import clipped_exp, row_mean


def importance_correction(
  old_logprobs: chex.Array,
  sampler_logprobs: chex.Array,
  mask: chex.Array,
  *,
  level: Literal["token", "sequence", "geometric"] = "token",
  mode: Literal["truncate", "mask"] = "truncate",
  low: chex.Numeric | None = None,
  high: chex.Numeric,
) -> jax.Array:
  """Returns the weights π_old / π_sampler of tokens.

  They correct for tokens drawn by an older policy, or by an engine that computes differently.

  w_t = exp(d_t), exp(Σ_t d_t) or exp(mean_t d_t) with d = old − sampler, for level "token", "sequence" and "geometric".
  mode "truncate" gives clip(w, low, high); "mask" gives w inside [low, high] and 0 outside.

  The weights multiply the surrogate before the aggregate, `token_mean(weights * surrogate, mask)`: what is masked out
  here leaves only the numerator, not the denominator. Truncation: "Truncated Importance Sampling" for rollout engines
  (Yao et al., 2025, after arXiv:1802.01561, eq. 1); masking: IcePop (arXiv:2510.18855).

  Args:
    old_logprobs: [B, T], of the learner at the start of the update; B stands for any leading axes.
    sampler_logprobs: [B, T], from the engine when it drew the tokens.
    mask: [B, T], bool or float, not 0 on counted tokens.
    level: one weight per token, or one per answer from the sum or the mean over its counted tokens.
    mode: what happens outside the bounds.
    low: lower bound of the weights; None: 0.
    high: upper bound of the weights.

  Returns:
    [B, T] weights in at least float32, constants for the gradient, 0 where the mask is 0.

  Raises:
    ValueError: if the level or the mode is unknown.
  """
  mask, old_logprobs, sampler_logprobs = masking.counted(mask, old_logprobs, sampler_logprobs)
  log_weight = old_logprobs - sampler_logprobs
  if level == "sequence":
    log_weight = jnp.broadcast_to(jnp.sum(log_weight, axis=-1, keepdims=True), mask.shape)
  elif level == "geometric":
    log_weight = jnp.broadcast_to(row_mean(log_weight, mask), mask.shape)
  elif level != "token":
    raise ValueError(f"level: expected 'token', 'sequence' or 'geometric', found {level!r}")
  low = 0.0 if low is None else low
  weight = clipped_exp(log_weight, low, high)
  if mode == "mask":
    # NaN is outside: a broken logprob must not pass as a weight.
    inside = (log_weight >= jnp.log(low)) & (log_weight <= jnp.log(high))
    weight = jnp.where(inside, weight, 0)
  elif mode != "truncate":
    raise ValueError(f"mode: expected 'truncate' or 'mask', found {mode!r}")
  return jax.lax.stop_gradient(jnp.where(mask, weight, 0))
