"""Computes the losses of DPO and its kin, with cached reference logprobs.

An update's pairs are packed into rows (`learner.packing`), all answers of a pair into the same row. So a micro-batch
has whole pairs, as many as its tokens hold. KTO estimates the KL, and AOT sorts pairs, within a micro-batch. So these
two losses, unlike all others, depend on how a batch is cut: on the token budget and on the number of shards.
`learner.single_answers` has KTO's loss of answers that have no partner.

R rows, C pairs of a row at most, K answers of a pair.
"""

import dataclasses
import enum
import inspect
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from posttrain_jax import losses
from posttrain_jax.compiled_once import made_once
from posttrain_jax.learner.packed_logprobs import packed_logprobs
from posttrain_jax.learner.packed_rows import to_sums
from posttrain_jax.learner.preference_batch import PackedPairs, Pairs
from posttrain_jax.learner.update import LossFunction, LossOutput
from posttrain_jax.types import InputError

_FAR = 1e6  # in nats; further than any logprob


class PreferenceLoss(enum.StrEnum):
  """Names functions of `losses.preference`; a function's positional arguments say what it is given."""

  DPO = "dpo"  # with label_smoothing: cDPO
  ROBUST = "robust"
  IPO = "ipo"
  HINGE = "hinge"
  DPOP = "dpop"
  KTO = "kto"
  ORPO = "orpo"
  SIMPO = "simpo"
  CPO = "cpo"
  SPPO = "sppo"
  EXO = "exo"
  NCA = "nca"
  AOT = "aot"
  AOT_UNPAIRED = "aot_unpaired"
  APO_ZERO = "apo_zero"
  APO_DOWN = "apo_down"
  DISCOPOP = "discopop"


@dataclasses.dataclass(frozen=True)
class PreferenceObjective:
  """Describes what a direct preference method minimises.

  Attributes:
    loss: which function.
    options: its keyword arguments, such as `beta`.
    nll_weight: weight of the negative log-likelihood of the chosen answer, added to the loss (Llama 3: 0.2).
    nll_mean: True divides that likelihood by the answer's length (Pang et al., arXiv:2404.19733); False sums it.
    length_averaged: True divides logprobs by the answer's length before they enter the loss (TRL's IPO).
    logprob_chunk: most tokens whose logits exist at a time on a device.
  """

  loss: PreferenceLoss
  options: Mapping[str, float] = dataclasses.field(hash=False)
  nll_weight: float
  nll_mean: bool
  length_averaged: bool
  logprob_chunk: int

  def __post_init__(self):
    """Checks the options.

    Raises:
      InputError: if the function does not take an option, if one that it needs is missing, or if a value is no number
        of the right size.
    """
    parameters = inspect.signature(getattr(losses.preference, self.loss)).parameters.values()
    known = {p.name: p for p in parameters if p.kind == inspect.Parameter.KEYWORD_ONLY}
    for name in self.options:
      if name not in known:
        raise InputError(f"objective.options.{name}: {self.loss} has no such option, expected {', '.join(known)}")
    for name, parameter in known.items():
      if parameter.default is inspect.Parameter.empty and name not in self.options:
        raise InputError(f"objective.options.{name}: missing, {self.loss} needs it")

    for name, value in self.options.items():
      least = 0 if name in ("beta", "tau", "temperature") else -1  # what divides or scales is not 0
      if isinstance(value, bool) or not isinstance(value, int | float) or not value > least:
        raise InputError(f"objective.options.{name}: {value!r}, expected a number{' above 0' if least == 0 else ''}")
    if self.logprob_chunk < 1:
      raise InputError(f"objective.logprob_chunk: {self.logprob_chunk}, expected at least 1")

  @property
  def inputs(self) -> tuple[str, ...]:
    """Names the arrays that the function takes."""
    parameters = inspect.signature(getattr(losses.preference, self.loss)).parameters.values()
    return tuple(p.name for p in parameters if p.kind == inspect.Parameter.POSITIONAL_OR_KEYWORD)

  @property
  def unpaired(self) -> bool:
    """Returns True if answers enter one by one (KTO).

    The batch then has a third, mismatched answer for the estimate of the KL.
    """
    return "desirable" in self.inputs


@made_once
def make_loss(
  graph: nnx.GraphDef, objective: PreferenceObjective, *, shards: int = 1
) -> LossFunction[PackedPairs, jax.Array]:
  """Makes the loss of one micro-batch: (parameters, `PackedPairs`, number of the update's pairs) to `LossOutput`.

  It is the micro-batch's part of the mean over the update's pairs (KTO: answers).

  Args:
    graph: graph of a stacked transformer.
    objective: what to minimise.
    shards: parts into which the row axis is split over the mesh.
  """

  def loss_function(params: nnx.State, batch: PackedPairs, total: jax.Array) -> LossOutput:
    sums = answer_sums(graph, params, batch, chunk=objective.logprob_chunk, shards=shards)
    return loss_of_sums(objective, sums, batch.pairs, total)

  return loss_function


def answer_sums(graph: nnx.GraphDef, params: nnx.State, batch: PackedPairs, *, chunk: int, shards: int) -> jax.Array:
  """Computes the policy's logprobs of a micro-batch's answers: float32 [R, C, K], sums over counted tokens.

  Args:
    graph: graph of a stacked transformer.
    params: its parameters.
    batch: the micro-batch.
    chunk: most tokens whose logits exist at a time on a device.
    shards: parts into which the row axis is split over the mesh.
  """
  logprobs = packed_logprobs(graph, params, batch.rows, chunk=chunk, shards=shards)
  sums = to_sums(batch.rows, jnp.where(batch.mask, logprobs, 0))
  return sums.reshape(batch.pairs.counts.shape)


def loss_of_sums(objective: PreferenceObjective, sums: jax.Array, pairs: Pairs, total: jax.Array) -> LossOutput:
  """Computes the loss of a micro-batch from the logprobs of its answers.

  Args:
    objective: what to minimise.
    sums: float32 [R, C, K], the policy's logprob of each answer: a sum over its counted tokens.
    pairs: the rest.
    total: pairs of the whole update.
  """
  sums, counts, of_reference, real = (
    x.reshape(-1, *x.shape[2:]) for x in (sums, pairs.counts, pairs.reference, pairs.real)
  )
  counts = jnp.maximum(counts, 1)
  scale = 1 / counts if objective.length_averaged else jnp.ones_like(sums)
  policy, reference = sums * scale, of_reference * scale
  if objective.loss in (PreferenceLoss.AOT, PreferenceLoss.AOT_UNPAIRED):
    # The loss sorts: places without a pair end up behind all pairs, so they must stand there.
    order = jnp.argsort(~real, stable=True)
    sums, counts, of_reference, policy, reference, real = (
      x[order] for x in (sums, counts, of_reference, policy, reference, real)
    )
    policy = jnp.where(real[:, None], policy, jnp.array([[2 * _FAR, _FAR]], policy.dtype))
    reference = jnp.where(real[:, None], reference, jnp.array([[_FAR, 0.0]], reference.dtype))
  given = {
    "policy_chosen": policy[:, 0],
    "policy_rejected": policy[:, 1],
    "reference_chosen": reference[:, 0],
    "reference_rejected": reference[:, 1],
    "chosen_mean": sums[:, 0] / counts[:, 0],
    "rejected_mean": sums[:, 1] / counts[:, 1],
  }
  if objective.unpaired:
    given = {
      "policy": policy[:, :2].T.ravel(),
      "reference": reference[:, :2].T.ravel(),
      "desirable": jnp.repeat(jnp.array([True, False]), len(policy)),
      "kl": jnp.maximum(_mean(policy[:, 2] - reference[:, 2], real, jnp.maximum(real.sum(), 1)), 0),
    }
  function = getattr(losses.preference, objective.loss)
  per_pair = function(**{name: given[name] for name in objective.inputs}, **objective.options)
  if objective.unpaired:
    per_pair = per_pair.reshape(2, -1).mean(axis=0)
  loss = _mean(per_pair, real, total)
  if objective.nll_weight:
    nll = -sums[:, 0] / (counts[:, 0] if objective.nll_mean else 1)
    loss += objective.nll_weight * _mean(nll, real, total)
  metrics = pair_metrics(sums, of_reference, counts, beta=objective.options.get("beta", 1.0))
  return LossOutput(loss=loss, sums={name: _mean(x, real, total) for name, x in metrics.items()}, maxima={})


def pair_metrics(policy: jax.Array, reference: jax.Array, counts: jax.Array, *, beta: float) -> dict[str, jax.Array]:
  """Returns implicit rewards β log(π / π_ref), and how far each answer's likelihood has moved.

  Args:
    policy: [N, K], logprob sums of the chosen answer, the rejected one, and any others.
    reference: [N, K], the reference's.
    counts: [N, K], counted tokens.
    beta: β.

  Returns:
    name → [N].
  """
  moved = policy - reference
  margin = moved[:, 0] - moved[:, 1]
  return {
    "reward/chosen": beta * moved[:, 0],
    "reward/rejected": beta * moved[:, 1],
    "reward/margin": beta * margin,
    "reward/accuracy": (jnp.sign(margin) + 1) / 2,  # a tie is half a win
    "logprob/chosen": policy[:, 0],
    "logprob/rejected": policy[:, 1],
    "logprob/chosen_moved": moved[:, 0],
    "logprob/rejected_moved": moved[:, 1],
    "length/chosen": counts[:, 0],
    "length/rejected": counts[:, 1],
  }


def _mean(values: jax.Array, real: jax.Array, total: jax.Array) -> jax.Array:
  return jnp.sum(jnp.where(real, values, 0)) / total
