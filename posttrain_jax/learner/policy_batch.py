"""Holds what a policy-gradient update trains on, and counts what its loss is divided by.

P prompts, G answers a prompt, Tp prompt tokens, Tc answer tokens. M micro-batches, R rows, N tokens: see
`learner.packing`.
"""

import dataclasses

import jax
import numpy as np

from posttrain_jax.learner.packed_rows import Packed, PackedRows
from posttrain_jax.learner.packing import Packing


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PolicyBatch:
  """Holds judged answers, padded, on the host.

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
  """Counts over a whole update, given as host arrays."""
  rows, count = batch.mask.any(-1), lambda x: np.int32(np.sum(x))
  return Totals(
    tokens=count(batch.mask),
    rows=count(rows),
    prompts=count(rows.any(-1)),
    correct_tokens=None if batch.correct is None else count(batch.mask & batch.correct[..., None]),
  )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PackedPolicy:
  """Holds judged answers in packed rows.

  Arrays are [M, R, N], or [R, N] in one micro-batch. Fields that `PolicyBatch` has mean the same.

  Attributes:
    rows: what the model reads.
    mask: bool.
    advantages: float32, like the logprobs that follow.
    sampler_logprobs: see `PolicyBatch`.
    old_logprobs: see `PolicyBatch`.
    reference_logprobs: see `PolicyBatch`.
    correct: bool.
    row_tokens: int32, counted tokens of the place's answer.
    prompt_tokens: int32, counted tokens of all answers to the place's prompt.
  """

  rows: PackedRows
  mask: jax.Array
  advantages: jax.Array
  sampler_logprobs: jax.Array
  old_logprobs: jax.Array | None
  reference_logprobs: jax.Array | None
  correct: jax.Array | None
  row_tokens: jax.Array
  prompt_tokens: jax.Array


def pack_policy(batch: PolicyBatch, packing: Packing) -> Packed[PackedPolicy, Totals]:
  """Packs the host arrays of an update."""
  pack = lambda x: None if x is None else packing.pack(x)  # noqa: E731
  counted = batch.mask.sum(-1, dtype=np.int32)
  parts = PackedPolicy(
    rows=packing.rows,
    mask=pack(batch.mask),
    advantages=pack(batch.advantages),
    sampler_logprobs=pack(batch.sampler_logprobs),
    old_logprobs=pack(batch.old_logprobs),
    reference_logprobs=pack(batch.reference_logprobs),
    correct=pack(batch.correct),
    row_tokens=pack(counted),
    prompt_tokens=pack(counted.sum(-1, dtype=np.int32)),
  )
  return Packed(parts, count=np.int32(packing.count), totals=count_totals(batch))


def with_old_logprobs(
  packed: Packed[PackedPolicy, Totals], old_logprobs: jax.Array | None
) -> Packed[PackedPolicy, Totals]:
  """Returns the same update with other old logprobs, [M, R, N]."""
  return dataclasses.replace(packed, parts=dataclasses.replace(packed.parts, old_logprobs=old_logprobs))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TokenInputs:
  """Holds what a token's loss needs besides its logprob and entropy.

  Each array is [R, N] for packed rows, or [R, A, Tc] with one answer a row (`packed_rows.to_answers`). It is None if
  the objective does not need it.

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
