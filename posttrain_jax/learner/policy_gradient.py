"""The policy-gradient loss: what a batch of judged answers is, how its loss is made, and what is measured on it.

P prompts, G answers a prompt, Tc answer tokens, M micro-batches.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx

from posttrain_jax import losses
from posttrain_jax.learner import policy_tokens
from posttrain_jax.learner.objective import Aggregation, Objective
from posttrain_jax.learner.policy_tokens import Tokens
from posttrain_jax.learner.update import LossFunction, LossOutput
from posttrain_jax.models.forward import answer_hidden


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
    old_logprobs: float32 [P, G, Tc], the learner's when the step began; None where nobody has computed them: an
      on-policy update makes them itself.
    reference_logprobs: float32 [P, G, Tc], the frozen reference's; None where nothing needs them.
    correct: bool [P, G], answers that are right; None where nothing needs it.
    prompt_tokens: int32 [P], counted tokens of all answers to a prompt, where they are cut over several rows
      (`learner.rows`); None where a row has them all.
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
  """Denominators of a whole update, whatever its micro-batches.

  Attributes:
    tokens: int32 [], counted tokens.
    rows: int32 [], answers with a counted token.
    prompts: int32 [], prompts with a counted token.
    correct_tokens: int32 [], counted tokens of correct answers; None where nobody knows which they are.
  """

  tokens: jax.Array
  rows: jax.Array
  prompts: jax.Array
  correct_tokens: jax.Array | None = None


def count_totals(mask: jax.Array, correct: jax.Array | None = None, prompt_tokens: jax.Array | None = None) -> Totals:
  """Counts over a mask with any leading axes.

  Args:
    mask: bool [..., P, G, Tc].
    correct: bool [..., P, G], where it is known.
    prompt_tokens: int32 [..., P], as in `PolicyBatch`.
  """
  rows = mask.any(-1)
  correct_tokens = None if correct is None else (mask & correct[..., None]).sum()
  if prompt_tokens is None:
    prompts = rows.any(-1).sum()
  else:  # the rows of a prompt have shares of its tokens, which add up to 1
    prompts = jnp.round((mask.sum((-2, -1)) / jnp.maximum(prompt_tokens, 1)).sum()).astype(jnp.int32)
  return Totals(mask.sum(), rows=rows.sum(), prompts=prompts, correct_tokens=correct_tokens)


def aggregate(
  objective: Objective, x: jax.Array, mask: jax.Array, totals: Totals, prompt_tokens: jax.Array | None = None
) -> jax.Array:
  """A micro-batch's part of the aggregated loss; x and mask are [P, G, Tc], prompt_tokens as in `PolicyBatch`."""
  match objective.aggregation:
    case Aggregation.TOKEN_MEAN:
      return losses.aggregate.token_mean(x, mask, denominator=totals.tokens)
    case Aggregation.PROMPT_MEAN:
      return losses.aggregate.prompt_mean(x, mask, denominator=totals.prompts, prompt_tokens=prompt_tokens)
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
  return losses.logprobs.token_logprobs(
    *_hidden(graph, params, batch),
    batch.answers,
    temperature=objective.temperature,
    chunk=objective.logprob_chunk,
    entropy=True,
    shards=shards,
  )


def _hidden(graph: nnx.GraphDef, params: nnx.State, batch: PolicyBatch) -> tuple[jax.Array, jax.Array]:
  """Hidden states [P, G, Tc, D] that predict the answers' tokens, and the unembedding [D, V]."""
  model = nnx.merge(graph, params)
  return answer_hidden(model, batch.prompts, batch.prompt_lengths, batch.answers), model.unembedding()


def make_loss(graph: nnx.GraphDef, objective: Objective, *, on_policy: bool, shards: int = 1) -> LossFunction:
  """The loss of one micro-batch.

  Args:
    graph: graph of the stacked transformer.
    objective: what to minimise.
    on_policy: the parameters are still those of the start of the step, so one forward gives learner and old logprobs.
    shards: parts into which the prompt axis is split over the mesh.
  """
  per_token = functools.partial(policy_tokens.per_token, objective, on_policy=on_policy)

  def loss_function(params: nnx.State, batch: PolicyBatch, totals: Totals) -> LossOutput:
    tokens = _tokens(objective, batch, totals)
    if objective.is_sum_over_tokens:
      loss, (learner_logprobs, entropy) = losses.token_loss.token_loss(
        per_token,
        *_hidden(graph, params, batch),
        batch.answers,
        tokens,
        temperature=objective.temperature,
        chunk=objective.logprob_chunk,
        shards=shards,
      )
    else:
      learner_logprobs, entropy = answer_logprobs(graph, objective, params, batch, shards=shards)
      loss = per_token(learner_logprobs, entropy, tokens).sum()
      learner_logprobs, entropy = jax.lax.stop_gradient((learner_logprobs, entropy))
    sums, maxima = policy_tokens.measure(
      objective, learner_logprobs, entropy, tokens, totals.tokens, on_policy=on_policy
    )
    return LossOutput(loss=loss, sums=sums, maxima=maxima)

  return loss_function


def _tokens(objective: Objective, batch: PolicyBatch, totals: Totals) -> Tokens:
  """What `policy_tokens` needs of a micro-batch."""
  mask, zeros = batch.mask, jnp.zeros(batch.mask.shape, jnp.float32)
  # Aggregates are linear in the losses, so their gradient is each loss's weight.
  total = functools.partial(aggregate, objective, mask=mask, totals=totals, prompt_tokens=batch.prompt_tokens)
  nll_weights = None
  if objective.nll_on_correct:
    mean = functools.partial(losses.aggregate.token_mean, denominator=totals.correct_tokens)
    nll_weights = jax.grad(mean)(zeros, mask & batch.correct[..., None])
  return Tokens(
    mask=mask,
    advantages=jnp.broadcast_to(batch.advantages, mask.shape),
    sampler_logprobs=batch.sampler_logprobs,
    old_logprobs=batch.old_logprobs,
    reference_logprobs=batch.reference_logprobs if objective.kl_coefficient else None,
    weights=jax.grad(total)(zeros),
    nll_weights=nll_weights,
  )
