"""What each answer token adds to the policy-gradient loss, and what is measured on it.

P prompts, G answers a prompt, Tc answer tokens.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from posttrain_jax import losses
from posttrain_jax.learner.objective import Objective


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tokens:
  """What a token's loss is made of beside its log probability and entropy; [P, G, Tc] each, or None where not needed.

  Attributes:
    mask: bool, True where the token counts.
    advantages: float32, as are all that follow.
    sampler_logprobs: the engine's, of when it drew the token.
    old_logprobs: the learner's, of when the step began.
    reference_logprobs: the frozen reference's.
    weights: what its loss counts in the aggregate.
    nll_weights: what its negative log-likelihood counts beside that; 0 in wrong answers.
  """

  mask: jax.Array
  advantages: jax.Array
  sampler_logprobs: jax.Array
  old_logprobs: jax.Array | None
  reference_logprobs: jax.Array | None
  weights: jax.Array
  nll_weights: jax.Array | None


def per_token(
  objective: Objective, learner_logprobs: jax.Array, entropy: jax.Array, tokens: Tokens, *, on_policy: bool
) -> jax.Array:
  """Every token's part of the loss, [P, G, Tc] or of any other cut of the tokens where `is_sum_over_tokens`."""
  old_logprobs = _old(learner_logprobs, tokens, on_policy)
  loss = objective.token_losses(learner_logprobs, old_logprobs, tokens.advantages, tokens.mask)
  if objective.correction.level != "off":
    loss *= _correction(objective, old_logprobs, tokens)
  if objective.kl_coefficient:
    loss += objective.kl_coefficient * _kl(objective, learner_logprobs, tokens)
  if objective.entropy_coefficient:
    loss -= objective.entropy_coefficient * entropy
  loss = jnp.where(tokens.mask, tokens.weights * loss, 0.0)
  if objective.nll_on_correct:
    loss += (
      objective.nll_on_correct * tokens.nll_weights * losses.supervised.next_token_nll(learner_logprobs, tokens.mask)
    )
  return loss


def _old(learner_logprobs: jax.Array, tokens: Tokens, on_policy: bool) -> jax.Array:
  return jax.lax.stop_gradient(learner_logprobs) if on_policy else tokens.old_logprobs


def _kl(objective: Objective, learner_logprobs: jax.Array, tokens: Tokens) -> jax.Array:
  reference = tokens.reference_logprobs
  return losses.kl.kl_estimate(learner_logprobs, reference, estimator=objective.kl_estimator, mask=tokens.mask)


def _correction(objective: Objective, old_logprobs: jax.Array, tokens: Tokens) -> jax.Array:
  correction = objective.correction
  return losses.policy.importance_correction(
    old_logprobs,
    tokens.sampler_logprobs,
    tokens.mask,
    level=correction.level,
    mode=correction.mode,
    low=correction.low or None,
    high=correction.high,
  )


def measure(
  objective: Objective,
  learner_logprobs: jax.Array,
  entropy: jax.Array,
  tokens: Tokens,
  total_tokens: jax.Array,
  *,
  on_policy: bool,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
  """Metrics of a micro-batch: those that add up over micro-batches, and those of which the largest counts.

  Args:
    objective: what is minimised.
    learner_logprobs: [P, G, Tc], constants, as all that follows.
    entropy: [P, G, Tc].
    tokens: the rest.
    total_tokens: int32 [], counted tokens of the whole update.
    on_policy: as in `per_token`.
  """
  mask, old_logprobs = tokens.mask, _old(learner_logprobs, tokens, on_policy)
  mean = functools.partial(losses.aggregate.token_mean, mask=mask, denominator=total_tokens)
  ratio = jnp.exp(jnp.where(mask, learner_logprobs - old_logprobs, 0.0))
  # A token is clipped where its advantage asks for a change and the surrogate has no gradient.
  surrogate = lambda logprobs: objective.token_losses(logprobs, old_logprobs, tokens.advantages, mask).sum()  # noqa: E731
  clipped = (jax.grad(surrogate)(learner_logprobs) == 0) & mask
  share = lambda condition: mean((clipped & condition).astype(jnp.float32))  # noqa: E731
  # The tokens came from the sampler, so the divergence that they estimate is KL(sampler || old).
  to_sampler = functools.partial(losses.kl.kl_estimate, tokens.sampler_logprobs, old_logprobs, mask=mask)
  mismatch = jnp.where(mask, jnp.abs(old_logprobs - tokens.sampler_logprobs), 0.0)
  sums = {
    "entropy": mean(entropy),
    "clip/low": share((tokens.advantages < 0) & (ratio < 1)),
    "clip/high": share(tokens.advantages > 0),
    "kl/k1_sampler": mean(to_sampler(estimator="k1")),
    "kl/k3_sampler": mean(to_sampler(estimator="k3")),
    "mismatch/mean_abs_logprob": mean(mismatch),
  }
  if objective.correction.level != "off":
    sums["correction/weight"] = mean(_correction(objective, old_logprobs, tokens))
  if objective.kl_coefficient:
    sums["kl/reference"] = mean(_kl(objective, learner_logprobs, tokens))
  if objective.nll_on_correct:
    sums["nll/correct"] = (tokens.nll_weights * losses.supervised.next_token_nll(learner_logprobs, mask)).sum()
  if objective.dual_clip:
    sums["clip/dual"] = share((tokens.advantages < 0) & (ratio > 1))
  return sums, {"ratio/max": ratio.max(), "mismatch/max_abs_logprob": mismatch.max()}
