"""Measures a policy-gradient update: entropy, clipped tokens, KL, mismatch of sampler and learner.

R rows, N tokens (`learner.packing`).
"""

import functools
import math

import jax
import jax.numpy as jnp

from posttrain_jax import losses
from posttrain_jax.learner.objective import Objective
from posttrain_jax.learner.policy_batch import TokenInputs
from posttrain_jax.losses.policy_ratios import MAX_LOG_RATIO, clipped_exp


def measure(
  objective: Objective, learner_logprobs: jax.Array, entropy: jax.Array, tokens: TokenInputs, total_tokens: jax.Array
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
  """Returns a micro-batch's metrics: those that add up over micro-batches, and those whose largest counts.

  Args:
    objective: what is minimised.
    learner_logprobs: [R, N] or [R, A, Tc], constants, like all arrays that follow.
    entropy: of the same shape.
    tokens: the rest.
    total_tokens: int32 [], counted tokens of the whole update.
  """
  mask, old_logprobs = tokens.mask, tokens.old_logprobs_or(learner_logprobs)
  mean = functools.partial(losses.aggregate.token_mean, mask=mask, denominator=total_tokens)
  ratio = clipped_exp(jnp.where(mask, learner_logprobs - old_logprobs, 0.0))
  # A token is clipped where its advantage asks for a change and the surrogate has no gradient.
  surrogate = lambda logprobs: objective.surrogate_losses(logprobs, old_logprobs, tokens.advantages, mask).sum()  # noqa: E731
  clipped = (jax.grad(surrogate)(learner_logprobs) == 0) & mask
  share = lambda condition: mean((clipped & condition).astype(jnp.float32))  # noqa: E731
  # The tokens came from the sampler, so the divergence that they estimate is KL(sampler || old).
  # It is not trained on, so it is bounded only where ratios are.
  to_sampler = functools.partial(
    losses.kl.kl_estimate, tokens.sampler_logprobs, old_logprobs, mask=mask, slope=math.exp(MAX_LOG_RATIO)
  )
  mismatch = jnp.where(mask, jnp.abs(old_logprobs - tokens.sampler_logprobs), 0.0)
  sums = {
    "entropy": mean(entropy),
    "clip/low": share((tokens.advantages < 0) & (ratio < 1)),
    "clip/high": share(tokens.advantages > 0),
    "kl/k1_sampler": mean(to_sampler(estimator="k1")),
    "kl/k3_sampler": mean(to_sampler(estimator="k3")),
    "mismatch/mean_abs_logprob": mean(mismatch),
  }
  if objective.correction.is_on:
    sums["correction/weight"] = mean(objective.correction.weights(old_logprobs, tokens.sampler_logprobs, mask))
  if objective.kl_coefficient:
    sums["kl/reference"] = mean(objective.kl_to_reference(learner_logprobs, tokens.reference_logprobs, mask))
  if objective.nll_on_correct:
    nll = losses.supervised.next_token_nll(learner_logprobs, mask)
    sums["nll/correct"] = losses.aggregate.total(tokens.nll_weights * nll)
  if objective.dual_clip:
    sums["clip/dual"] = share((tokens.advantages < 0) & (ratio > 1))
  return sums, {"ratio/max": ratio.max(), "mismatch/max_abs_logprob": mismatch.max()}
