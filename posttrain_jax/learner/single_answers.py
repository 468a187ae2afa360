"""Computes KTO's loss of single answers, of which people said that they are good or bad.

Each answer stands beside one to another prompt. The mean log ratio of these is the estimate of the KL to the reference
(arXiv:2402.01306, section 4.1), taken over a micro-batch. The loss is the mean over the update's answers, whatever
their labels. So the weights of the two kinds, times their numbers, say how much each kind counts.

R rows, C answers with a label of a row at most.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from posttrain_jax import losses
from posttrain_jax.compiled_once import made_once
from posttrain_jax.learner.preference import PreferenceObjective, answer_sums
from posttrain_jax.learner.preference_batch import LabelCounts, PackedPairs, Pairs
from posttrain_jax.learner.update import LossFunction, LossOutput


@made_once
def make_loss(
  graph: nnx.GraphDef, objective: PreferenceObjective, *, shards: int = 1
) -> LossFunction[PackedPairs, LabelCounts]:
  """Makes the loss of one micro-batch: (parameters, `PackedPairs`, `LabelCounts` of the update) to `LossOutput`.

  Args:
    graph: graph of a stacked transformer.
    objective: what to minimise; its loss is KTO.
    shards: parts into which the row axis is split over the mesh.
  """

  def loss_function(params: nnx.State, batch: PackedPairs, totals: LabelCounts) -> LossOutput:
    sums = answer_sums(graph, params, batch, chunk=objective.logprob_chunk, shards=shards)
    return loss_of_sums(objective, sums, batch.pairs, totals)

  return loss_function


def loss_of_sums(objective: PreferenceObjective, sums: jax.Array, answers: Pairs, totals: LabelCounts) -> LossOutput:
  """Computes the loss of a micro-batch from the logprobs of its answers.

  Args:
    objective: what to minimise.
    sums: float32 [R, C, 2], the policy's logprobs of each answer and of its mismatched one.
    answers: the rest.
    totals: of the whole update.
  """
  sums, counts, of_reference, real, desirable = (
    x.reshape(-1, *x.shape[2:]) for x in (sums, answers.counts, answers.reference, answers.real, answers.desirable)
  )
  counts = jnp.maximum(counts, 1)
  scale = 1 / counts if objective.length_averaged else jnp.ones_like(sums)
  policy, reference = sums * scale, of_reference * scale
  there = real.sum()
  kl = jnp.maximum(jnp.sum(jnp.where(real, policy[:, 1] - reference[:, 1], 0)) / jnp.maximum(there, 1), 0)
  each = losses.preference.kto(policy[:, 0], reference[:, 0], desirable, kl, **objective.options)
  loss = jnp.sum(jnp.where(real, each, 0)) / totals.answers
  of_kind = {
    "chosen": (real & desirable, totals.desirable),
    "rejected": (real & ~desirable, totals.undesirable),
  }
  if objective.nll_weight:
    good, number = of_kind["chosen"]
    nll = -sums[:, 0] / (counts[:, 0] if objective.nll_mean else 1)
    loss += objective.nll_weight * jnp.sum(jnp.where(good, nll, 0)) / number
  beta = objective.options.get("beta", 1.0)
  found = {
    name.format(kind): jnp.sum(jnp.where(which, values, 0)) / number
    for name, values in answer_metrics(sums[:, 0], of_reference[:, 0], counts[:, 0], beta=beta).items()
    for kind, (which, number) in of_kind.items()
  }
  found["reward/margin"] = found["reward/chosen"] - found["reward/rejected"]
  found["kl"] = jax.lax.stop_gradient(kl) * there / totals.answers
  return LossOutput(loss=loss, sums=found, maxima={})


def answer_metrics(
  policy: jax.Array | np.ndarray, reference: jax.Array | np.ndarray, counts: jax.Array | np.ndarray, *, beta: float
) -> dict[str, jax.Array | np.ndarray]:
  """Returns an answer's metrics: implicit reward, logprob, and by how much the logprob has moved.

  They have the names of a pair's (`learner.preference.pair_metrics`). Good answers are the chosen ones.

  Args:
    policy: [N], logprob sums.
    reference: [N], the reference's.
    counts: [N], counted tokens.
    beta: β.

  Returns:
    name with a place for "chosen" or "rejected" → [N].
  """
  moved = policy - reference
  return {"reward/{}": beta * moved, "logprob/{}": policy, "logprob/{}_moved": moved, "length/{}": counts}
