"""Holds what a policy-gradient update trains on, and counts what its loss is divided by.

P prompts, G answers a prompt, Tc answer tokens, M micro-batches.
"""

import dataclasses

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PolicyBatch:
  """Holds judged answers; every leaf may have a leading micro-batch axis [M, ...].

  Attributes:
    prompts: int32 [P, Tp], padded on the right.
    prompt_lengths: int32 [P].
    answers: int32 [P, G, Tc], padded on the right.
    mask: bool [P, G, Tc], True on tokens that count.
    advantages: float32 [P, G, 1] or [P, G, Tc].
    sampler_logprobs: float32 [P, G, Tc], from the engine when it drew the tokens.
    old_logprobs: float32 [P, G, Tc], the learner's when the step began. None if they have not been computed: an
      on-policy update computes them itself.
    reference_logprobs: float32 [P, G, Tc], the frozen reference's. Needed for a KL term only; otherwise may be None.
    correct: bool [P, G], True for right answers. Needed for `nll_on_correct` only; otherwise may be None.
    prompt_tokens: int32 [P], counted tokens of all answers to a prompt, if these are cut over several rows
      (`learner.rows`). None if a row has all answers.
  """

  prompts: jax.Array
  prompt_lengths: jax.Array
  answers: jax.Array
  mask: jax.Array
  advantages: jax.Array
  sampler_logprobs: jax.Array
  old_logprobs: jax.Array | None = None
  reference_logprobs: jax.Array | None = None
  correct: jax.Array | None = None
  prompt_tokens: jax.Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Totals:
  """Holds counts of a whole optimiser update, over all its micro-batches and shards.

  Attributes:
    tokens: int32 [], counted tokens.
    rows: int32 [], answers with a counted token.
    prompts: int32 [], prompts with a counted token.
    correct_tokens: int32 [], counted tokens of correct answers; None if the batch does not say which are correct.
  """

  tokens: jax.Array
  rows: jax.Array
  prompts: jax.Array
  correct_tokens: jax.Array | None = None


def count_totals(batch: PolicyBatch) -> Totals:
  """Counts over a whole update.

  Args:
    batch: of the update, with or without a micro-batch axis.
  """
  mask, correct = batch.mask, batch.correct
  rows = mask.any(-1)
  correct_tokens = None if correct is None else (mask & correct[..., None]).sum()
  if batch.prompt_tokens is None:
    prompts = rows.any(-1).sum()
  else:  # the rows of a prompt have shares of its tokens, which add up to 1
    prompts = jnp.round((mask.sum((-2, -1)) / jnp.maximum(batch.prompt_tokens, 1)).sum()).astype(jnp.int32)
  return Totals(mask.sum(), rows=rows.sum(), prompts=prompts, correct_tokens=correct_tokens)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TokenInputs:
  """Holds what a token's loss needs besides its logprob and entropy.

  Each array is [P, G, Tc], or None if the objective does not need it.

  Attributes:
    mask: bool, True where the token counts.
    advantages: float32, like all fields that follow.
    sampler_logprobs: from the engine when it drew the token.
    old_logprobs: the learner's when the step began; None in an on-policy update.
    reference_logprobs: the frozen reference's.
    weights: of the token's loss in the sum over tokens.
    nll_weights: of its negative log-likelihood in that sum; 0 in wrong answers.
  """

  mask: jax.Array
  advantages: jax.Array
  sampler_logprobs: jax.Array
  old_logprobs: jax.Array | None
  reference_logprobs: jax.Array | None
  weights: jax.Array
  nll_weights: jax.Array | None

  def old_logprobs_or(self, learner_logprobs: jax.Array) -> jax.Array:
    """Returns the old logprobs; in an on-policy update, the learner's as constants."""
    return jax.lax.stop_gradient(learner_logprobs) if self.old_logprobs is None else self.old_logprobs
