"""Computes the policy-gradient loss of a micro-batch.

Every counted token has a loss: the surrogate's, times the weight of the sampler correction, plus the KL term, minus the
entropy bonus. The update's loss is the weighted sum of them, and `objective.aggregation` chooses the weights. So the
sum over tokens is divided by

  token_mean       the counted tokens
  prompt_mean      the prompts, after the sum of each prompt is divided by the counted tokens of its answers
  sequence_mean    the rows (answers), after the sum of each row is divided by its counted tokens
  sequence_sum     the rows
  fixed_length     rows · rollout.max_new_tokens

A row or prompt without a counted token is not counted. Tokens, rows and prompts are counted over the whole optimiser
update (`Totals`), never over a micro-batch or over the part of a shard. So the parts add up: the losses and gradients
of micro-batches and shards are summed, not averaged, and the result does not depend on how the update is cut. A token
that only the correction takes out keeps its place in the count. The likelihood term of `nll_on_correct` has a
denominator of its own: the counted tokens of the update's correct answers. `losses.aggregate` has the formulas.

R rows, N tokens, A answers of a row, Tc answer tokens (`learner.packing`).
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from posttrain_jax import losses
from posttrain_jax.compiled_once import made_once
from posttrain_jax.learner.objective import Aggregation, Objective
from posttrain_jax.learner.packed_logprobs import packed_logprobs, packed_states
from posttrain_jax.learner.packed_rows import to_answers
from posttrain_jax.learner.policy_batch import PackedPolicy, TokenInputs, Totals
from posttrain_jax.learner.policy_metrics import measure
from posttrain_jax.learner.update import LossFunction, LossOutput


@made_once
def make_loss(
  graph: nnx.GraphDef, objective: Objective, *, on_policy: bool, shards: int = 1
) -> LossFunction[PackedPolicy, Totals]:
  """Makes the loss of one micro-batch: (parameters, `PackedPolicy`, `Totals` of the update) to `LossOutput`.

  Args:
    graph: graph of the stacked transformer.
    objective: what to minimise.
    on_policy: True if the parameters are still those of the start of the step. Then one forward pass gives both the
      learner's and the old logprobs.
    shards: parts into which the row axis is split over the mesh.
  """
  loss_of = functools.partial(loss_of_tokens, objective)

  def loss_function(params: nnx.State, batch: PackedPolicy, totals: Totals) -> LossOutput:
    tokens = token_inputs(objective, batch, totals, on_policy=on_policy)
    if objective.is_sum_over_tokens:
      hidden, unembedding, absent = packed_states(graph, params, batch.rows)
      loss, (learner_logprobs, entropy) = losses.fused_loss.summed_token_loss(
        loss_of,
        hidden,
        unembedding,
        batch.rows.targets,
        tokens,
        temperature=objective.temperature,
        absent=absent,
        chunk=objective.logprob_chunk,
        shards=shards,
        needed=batch.rows.predicting.max(),
      )
    else:
      found = packed_logprobs(
        graph,
        params,
        batch.rows,
        temperature=objective.temperature,
        chunk=objective.logprob_chunk,
        entropy=True,
        shards=shards,
      )
      learner_logprobs, entropy, tokens = jax.tree.map(lambda x: to_answers(batch.rows, x), (*found, tokens))
      loss = losses.aggregate.total(loss_of(learner_logprobs, entropy, tokens))
      learner_logprobs, entropy = jax.lax.stop_gradient((learner_logprobs, entropy))
    sums, maxima = measure(objective, learner_logprobs, entropy, tokens, totals.tokens)
    return LossOutput(loss=loss, sums=sums, maxima=maxima)

  return loss_function


def objective_weights(objective: Objective, batch: PackedPolicy, totals: Totals) -> jax.Array:
  """Returns the weight of each token's loss in the update's, float32 [R, N].

  Args:
    objective: its aggregation.
    batch: a micro-batch.
    totals: counts of the whole update.
  """
  counts = {Aggregation.TOKEN_MEAN: totals.tokens, Aggregation.PROMPT_MEAN: totals.prompts}
  # Packed tokens are rows of one token, which say how many tokens their answers and prompts have.
  weights = losses.aggregate.token_weights(
    batch.mask[..., None],
    objective.aggregation,
    denominator=counts.get(objective.aggregation, totals.rows),
    row_tokens=batch.row_tokens,
    prompt_tokens=batch.prompt_tokens,
    max_length=objective.max_new_tokens,
  )
  return weights[..., 0]


def token_inputs(objective: Objective, batch: PackedPolicy, totals: Totals, *, on_policy: bool) -> TokenInputs:
  """Returns what the loss of each token of a micro-batch needs.

  Args:
    objective: what to minimise.
    batch: the micro-batch.
    totals: counts of the whole update.
    on_policy: as in `make_loss`.

  Raises:
    ValueError: if the update is off-policy and the batch has no old logprobs.
  """
  if not on_policy and batch.old_logprobs is None:
    raise ValueError("old_logprobs: missing, the update is off-policy")
  nll_weights = None
  if objective.nll_on_correct:
    right = batch.mask & batch.correct
    nll_weights = losses.aggregate.token_weights(right, Aggregation.TOKEN_MEAN, denominator=totals.correct_tokens)
  return TokenInputs(
    mask=batch.mask,
    advantages=batch.advantages,
    sampler_logprobs=batch.sampler_logprobs,
    old_logprobs=None if on_policy else batch.old_logprobs,
    reference_logprobs=batch.reference_logprobs if objective.kl_coefficient else None,
    weights=objective_weights(objective, batch, totals),
    nll_weights=nll_weights,
  )


def loss_of_tokens(
  objective: Objective, learner_logprobs: jax.Array, entropy: jax.Array, tokens: TokenInputs
) -> jax.Array:
  """Returns each token's part of the update's loss.

  Args:
    objective: what to minimise.
    learner_logprobs: [R, A, Tc], or any other cut of the tokens if `objective.is_sum_over_tokens`.
    entropy: of the same shape, where each token was drawn.
    tokens: the rest, of the same shape.

  Returns:
    An array of that shape; its sum is the micro-batch's part of the loss.
  """
  mask, old_logprobs = tokens.mask, tokens.old_logprobs_or(learner_logprobs)
  loss = objective.surrogate_losses(learner_logprobs, old_logprobs, tokens.advantages, mask)
  if objective.correction.is_on:
    loss *= objective.correction.weights(old_logprobs, tokens.sampler_logprobs, mask)
  if objective.kl_coefficient:
    loss += objective.kl_coefficient * objective.kl_to_reference(learner_logprobs, tokens.reference_logprobs, mask)
  if objective.entropy_coefficient:
    loss -= objective.entropy_coefficient * entropy
  loss = jnp.where(mask, tokens.weights * loss, 0.0)
  if objective.nll_on_correct:
    nll = losses.supervised.next_token_nll(learner_logprobs, mask)
    loss += objective.nll_on_correct * tokens.nll_weights * nll
  return loss
