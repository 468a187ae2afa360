"""The policy-gradient learner: what a batch of judged answers is, what is minimised on it, and what is measured.

The algorithm is data here. GRPO, Dr. GRPO and DAPO differ in clip bounds, in what is averaged over what, and in the KL
term, all fields of `Objective`; advantages come with the batch.

P prompts, G answers a prompt, Tc answer tokens, M micro-batches.
"""

import dataclasses
import enum
import functools

import jax
import jax.numpy as jnp
from flax import nnx

from posttrain_jax import losses
from posttrain_jax.learner.update import LossFunction, LossOutput
from posttrain_jax.models.forward import answer_hidden
from posttrain_jax.types import InputError


class Aggregation(enum.StrEnum):
  """What the loss averages over what; the functions of the same names are in `losses.aggregate`."""

  TOKEN_MEAN = "token_mean"
  PROMPT_MEAN = "prompt_mean"
  SEQUENCE_MEAN = "sequence_mean"
  SEQUENCE_SUM = "sequence_sum"
  FIXED_LENGTH = "fixed_length"


@dataclasses.dataclass(frozen=True)
class Correction:
  """Weights old / sampler for stale tokens and for an engine that computes differently (`losses.policy`).

  Attributes:
    level: "token", "sequence" or "geometric"; "off" leaves the correction out.
    mode: "truncate" at `high`, or "mask" outside [low, high].
    low: lower bound of the band; 0 for none.
    high: upper bound.
  """

  level: str = "token"
  mode: str = "truncate"
  low: float = 0.0
  high: float = 2.0

  def __post_init__(self):
    """Raises InputError on an unknown level or mode."""
    if self.level not in ("off", "token", "sequence", "geometric"):
      raise InputError(f"correction.level: {self.level!r}, expected off, token, sequence or geometric")
    if self.mode not in ("truncate", "mask"):
      raise InputError(f"correction.mode: {self.mode!r}, expected truncate or mask")
    if not 0 <= self.low < self.high:
      raise InputError(f"correction: low {self.low}, high {self.high}, expected 0 <= low < high")


@dataclasses.dataclass(frozen=True)
class Objective:
  """What is minimised.

  Attributes:
    clip_low: ratios below 1 - clip_low get no gradient where the advantage is negative.
    clip_high: ratios above 1 + clip_high get none where it is positive; above clip_low in DAPO ("clip-higher").
    dual_clip: bound on the ratio where the advantage is negative; 0 for none.
    aggregation: how token losses become one number.
    kl_coefficient: weight of the KL term to the reference; 0 leaves the reference out altogether.
    kl_estimator: "k2", "k3" or "k3+"; k1 is refused, since as a loss its on-policy gradient is zero in expectation.
    correction: staleness and engine mismatch.
    temperature: the sampling temperature, so that learner and sampler mean the same distribution.
    max_new_tokens: the constant of `fixed_length`.
    logprob_chunk: most tokens whose logits exist at a time on a device.
  """

  clip_low: float = 0.2
  clip_high: float = 0.28
  dual_clip: float = 0.0
  aggregation: Aggregation = Aggregation.TOKEN_MEAN
  kl_coefficient: float = 0.0
  kl_estimator: str = "k3"
  correction: Correction = Correction()
  temperature: float = 1.0
  max_new_tokens: int = 0
  logprob_chunk: int = 1024

  def __post_init__(self):
    """Raises InputError on values that would train something else than what they say."""
    if self.kl_estimator not in ("k2", "k3", "k3+"):
      raise InputError(f"objective.kl_estimator: {self.kl_estimator!r}, expected k2, k3 or k3+ (k1 has no gradient)")
    if not 0 <= self.clip_low <= 1 or self.clip_high < 0:
      raise InputError(f"objective.clip: low {self.clip_low}, high {self.clip_high}, expected low in [0, 1], high >= 0")
    if self.dual_clip and self.dual_clip <= 1:
      raise InputError(f"objective.dual_clip: {self.dual_clip}, expected 0 (off) or more than 1")
    if self.logprob_chunk < 1:
      raise InputError(f"objective.logprob_chunk: {self.logprob_chunk}, expected at least 1")
    if self.temperature <= 0:
      raise InputError(f"objective.temperature: {self.temperature}, expected more than 0 to train on samples")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PolicyBatch:
  """What one update trains on; every leaf may have a leading micro-batch axis [M, ...].

  Attributes:
    prompts: int32 [P, Tp], padded on the right.
    prompt_lengths: int32 [P].
    answers: int32 [P, G, Tc], padded on the right.
    mask: bool [P, G, Tc], True on tokens that count.
    advantages: float32 [P, G, 1] or [P, G, Tc].
    sampler_logprobs: float32 [P, G, Tc].
    old_logprobs: float32 [P, G, Tc], the learner's when the step began; ignored by an on-policy update.
    reference_logprobs: float32 [P, G, Tc], the frozen reference's; ignored where the KL coefficient is 0.
  """

  prompts: jax.Array
  prompt_lengths: jax.Array
  answers: jax.Array
  mask: jax.Array
  advantages: jax.Array
  sampler_logprobs: jax.Array
  old_logprobs: jax.Array
  reference_logprobs: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Totals:
  """Denominators of a whole update, whatever its micro-batches.

  Attributes:
    tokens: int32 [], counted tokens.
    rows: int32 [], answers with a counted token.
    prompts: int32 [], prompts with a counted token.
  """

  tokens: jax.Array
  rows: jax.Array
  prompts: jax.Array


def count_totals(mask: jax.Array) -> Totals:
  """Counts over a mask [..., G, Tc] with any leading axes."""
  rows = mask.any(-1)
  return Totals(tokens=mask.sum(), rows=rows.sum(), prompts=rows.any(-1).sum())


def aggregate(objective: Objective, x: jax.Array, mask: jax.Array, totals: Totals) -> jax.Array:
  """A micro-batch's part of the aggregated loss; x and mask are [P, G, Tc]."""
  match objective.aggregation:
    case Aggregation.TOKEN_MEAN:
      return losses.aggregate.token_mean(x, mask, denominator=totals.tokens)
    case Aggregation.PROMPT_MEAN:
      return losses.aggregate.prompt_mean(x, mask, denominator=totals.prompts)
    case Aggregation.SEQUENCE_MEAN:
      return losses.aggregate.sequence_mean(x, mask, denominator=totals.rows)
    case Aggregation.SEQUENCE_SUM:
      return losses.aggregate.sequence_sum(x, mask, denominator=totals.rows)
    case Aggregation.FIXED_LENGTH:
      max_length = objective.max_new_tokens
      return losses.aggregate.fixed_length(x, mask, max_length=max_length, denominator=totals.rows)


def answer_logprobs(
  graph: nnx.GraphDef, objective: Objective, params: nnx.State, batch: PolicyBatch, *, shards: int = 1
) -> tuple[jax.Array, jax.Array]:
  """The learner's log probabilities of the answers' tokens, and the entropies where they were drawn.

  Args:
    graph: graph of the stacked transformer.
    objective: temperature and chunk size.
    params: the parameters.
    batch: without a micro-batch axis.
    shards: parts into which the prompt axis is split over the mesh.

  Returns:
    Two float32 arrays [P, G, Tc]; arbitrary where the mask is False.
  """
  model = nnx.merge(graph, params)
  hidden = answer_hidden(model, batch.prompts, batch.prompt_lengths, batch.answers)
  return losses.logprobs.token_logprobs(
    hidden,
    model.unembedding(),
    batch.answers,
    temperature=objective.temperature,
    chunk=objective.logprob_chunk,
    entropy=True,
    shards=shards,
  )


def make_loss(graph: nnx.GraphDef, objective: Objective, *, on_policy: bool, shards: int = 1) -> LossFunction:
  """The loss of one micro-batch.

  Args:
    graph: graph of the stacked transformer.
    objective: what to minimise.
    on_policy: the parameters are still those of the start of the step, so one forward gives learner and old logprobs.
    shards: parts into which the prompt axis is split over the mesh.
  """

  def loss_function(params: nnx.State, batch: PolicyBatch, totals: Totals) -> LossOutput:
    learner_logprobs, entropy = answer_logprobs(graph, objective, params, batch, shards=shards)
    old_logprobs = jax.lax.stop_gradient(learner_logprobs) if on_policy else batch.old_logprobs
    token_losses = losses.policy.clipped_surrogate(
      learner_logprobs,
      old_logprobs,
      batch.advantages,
      batch.mask,
      clip_low=objective.clip_low,
      clip_high=objective.clip_high,
      dual_clip=objective.dual_clip or None,
    )
    mean = functools.partial(losses.aggregate.token_mean, mask=batch.mask, denominator=totals.tokens)
    sums = {}
    if objective.correction.level != "off":
      correction = objective.correction
      weights = losses.policy.importance_correction(
        old_logprobs,
        batch.sampler_logprobs,
        batch.mask,
        level=correction.level,
        mode=correction.mode,
        low=correction.low or None,
        high=correction.high,
      )
      token_losses = weights * token_losses
      sums["correction/weight"] = mean(weights)
    loss = aggregate(objective, token_losses, batch.mask, totals)
    if objective.kl_coefficient:
      estimator = objective.kl_estimator
      kl = losses.kl.kl_estimate(learner_logprobs, batch.reference_logprobs, estimator=estimator, mask=batch.mask)
      sums["kl/reference"] = mean(kl)
      loss += objective.kl_coefficient * aggregate(objective, kl, batch.mask, totals)

    ratio = jnp.exp(jnp.where(batch.mask, learner_logprobs - old_logprobs, 0.0))
    advantages = jnp.broadcast_to(batch.advantages, ratio.shape)
    low = (ratio < 1 - objective.clip_low) & (advantages < 0)
    # The tokens came from the sampler, so the divergence that they estimate is KL(sampler || old).
    to_sampler = functools.partial(losses.kl.kl_estimate, batch.sampler_logprobs, old_logprobs, mask=batch.mask)
    mismatch = jnp.where(batch.mask, jnp.abs(old_logprobs - batch.sampler_logprobs), 0.0)
    sums |= {
      "entropy": mean(entropy),
      "clip/low": mean(low.astype(jnp.float32)),
      "clip/high": mean(((ratio > 1 + objective.clip_high) & (advantages > 0)).astype(jnp.float32)),
      "kl/k1_sampler": mean(to_sampler(estimator="k1")),
      "kl/k3_sampler": mean(to_sampler(estimator="k3")),
      "mismatch/mean_abs_logprob": mean(mismatch),
    }
    if objective.dual_clip:
      sums["clip/dual"] = mean(((ratio > objective.dual_clip) & (advantages < 0)).astype(jnp.float32))
    maxima = {"ratio/max": ratio.max(), "mismatch/max_abs_logprob": mismatch.max()}
    return LossOutput(loss=loss, sums=sums, maxima=maxima)

  return loss_function
