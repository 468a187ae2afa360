"""Trains a policy; owns its train state and the jitted programs that use it."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax import progress
from posttrain_jax.compiled_once import made_once
from posttrain_jax.learner import policy_gradient, supervised
from posttrain_jax.learner.data_batches import SupervisedRows
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.mixture import Text, weighted
from posttrain_jax.learner.objective import Objective
from posttrain_jax.learner.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer, start
from posttrain_jax.learner.packed_rows import Packed
from posttrain_jax.learner.packing import Packings
from posttrain_jax.learner.policy_batch import PackedPolicy, PolicyBatch, Totals, pack_policy, with_old_logprobs
from posttrain_jax.learner.scoring import logprob_scorer
from posttrain_jax.learner.state import make_train_state
from posttrain_jax.learner.update import SkippedUpdates, Summand, combine, update_program
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.memory import Kept
from posttrain_jax.parallel.processes import spread
from posttrain_jax.parallel.sharding import batch_shards

PackedUpdate = Packed[PackedPolicy, Totals]


class PolicyLearner:
  """Trains a policy on judged answers.

  Attributes:
    state: the train state. Every update donates it, so never keep a reference to its arrays across an update.
    shardings: its shardings.
    mesh: the devices that hold its state.
    learning_rate: schedule by number of updates.
    update: the programs of an on-policy update (True) and of any other: (state, `PackedUpdate`, or a pair of it and
      text) to (state, metrics).
    batch_shardings: of the update programs' batches.
    skipped: counts updates that were not finite.
    scorer: computes logprobs of answers under any parameters of the policy's shape.
  """

  def __init__(
    self,
    model: TransformerConfig,
    objective: Objective,
    optimizer: OptimizerConfig,
    mesh: Mesh,
    division: Division,
    *,
    max_skipped_updates: int,
    seed: int,
    params: nnx.State | None = None,
    text: Text | None = None,
    abstract: bool = False,
    optimizer_kept: Kept = Kept.DEVICE,
  ):
    """Makes the state and the programs.

    Args:
      model: the transformer, layers stacked.
      objective: what to minimise.
      optimizer: optimiser and learning-rate schedule.
      mesh: the devices that compute.
      division: P prompts of an optimiser update, and tokens of a micro-batch.
      max_skipped_updates: training ends after this many updates in a row that are not finite.
      seed: of random parameters.
      params: parameters to start from. Random ones if None.
      text: its likelihood is part of every update; None for no text.
      abstract: make the programs and no array (`make_train_state`): such a learner is compiled and cannot train.
      optimizer_kept: in which memory the optimiser's state is between updates.
    """
    shards = batch_shards(mesh)
    self.mesh, self._objective, self._text = mesh, objective, text
    self.skipped = SkippedUpdates(max_skipped_updates)
    transformation = make_optimizer(optimizer)
    self.learning_rate: Callable[[int], float] = learning_rate_schedule(optimizer)
    self.state, self.shardings = make_train_state(
      model, transformation, mesh, seed=seed, params=params, abstract=abstract, optimizer_kept=optimizer_kept
    )
    if not abstract:
      self.state = dataclasses.replace(self.state, opt_state=start(optimizer, self.state.opt_state))
    self.scorer = logprob_scorer(model, objective, mesh, division)
    self.batch_shardings = self.scorer.batch_shardings
    if text is not None:
      self.batch_shardings = (self.batch_shardings, self.batch_shardings)

    graph, _ = abstract_transformer(model)
    coefficient = None if text is None else text.coefficient

    def program(on_policy: bool) -> Callable:
      summands = _summands(graph, objective, on_policy, shards, coefficient)
      return update_program(summands, transformation, self.shardings, self.batch_shardings)

    self.update = {on_policy: program(on_policy) for on_policy in (True, False)}

  @property
  def version(self) -> int:
    """Counts the optimiser updates applied so far."""
    return int(self.state.updates)

  def train(
    self, batch: PolicyBatch, *, order: Sequence[np.ndarray] | None = None, packings: Packings | None = None
  ) -> dict[str, float]:
    """Trains on a batch whose old logprobs come from the current parameters.

    Each update takes P prompts. The first is on-policy, the others are off-policy.

    Args:
      batch: host arrays; the number of prompts is a multiple of P. Old logprobs are computed if it has none. It needs
        reference logprobs if the objective has a KL term, and `correct` if the objective has `nll_on_correct`. An
        update without a counted token is left out.
      order: for each epoch the indices of the prompts to train on, in their order. None: one epoch, in the order of
        the batch.
      packings: those of the batch, if it was scored before.

    Returns:
      Metrics: means over the updates, largest values, and counts of skipped updates.

    Raises:
      Diverged: if too many updates in a row were not finite.
      ValueError: if the batch lacks an array that the objective needs.
    """
    if self._objective.kl_coefficient and batch.reference_logprobs is None:
      raise ValueError("reference_logprobs: missing, the objective has a KL term")
    if self._objective.nll_on_correct and batch.correct is None:
      raise ValueError("correct: missing, the objective has nll_on_correct")
    if order is not None:
      if batch.old_logprobs is None:
        batch = dataclasses.replace(batch, old_logprobs=self.score(batch, packings))
    parts = list(self.scorer.split(batch, packings, None if order is None else np.concatenate(order)))
    updates = [pack_policy(part, packing) for part, packing in parts]
    with jax.set_mesh(self.mesh):
      if batch.old_logprobs is None:
        # The first update is on-policy and computes its own in the same forward pass.
        old = [self.scorer.run(self.state.params, packing) for _, packing in parts[1:]]
        updates[1:] = [with_old_logprobs(update, each) for update, each in zip(updates[1:], old)]
      else:
        updates[0] = with_old_logprobs(updates[0], None)
      found, version = [], self.version
      for i, update in enumerate(updates):
        if update.count:
          given = spread(self.with_text(update, version + len(found)), self.batch_shardings)
          self.state, metrics = self.update[i == 0](self.state, given)
          found.append(metrics)
        if i:
          jax.block_until_ready(found[:-1])  # one update stays queued, so that the device does not wait
          progress.report("updates", i, len(parts))
    found = jax.device_get(found)
    for metrics in found:
      self.skipped.count(bool(metrics["skipped_updates"]))
    return combine(found)

  def with_text(
    self, update: PackedUpdate, version: int
  ) -> PackedUpdate | tuple[PackedUpdate, Packed[SupervisedRows, jax.Array]]:
    """Returns an update's answers, with its text if there is any."""
    if self._text is None:
      return update
    return update, supervised.pack_rows(self._text.micro_batches, self._text.batch(version))

  def score(self, batch: PolicyBatch, packings: Packings | None = None) -> np.ndarray:
    """Returns a batch's logprobs [P, G, Tc] under the current parameters, arbitrary where masked."""
    return self.scorer(self.state.params, batch, packings)


@made_once
def _summands(
  graph: nnx.GraphDef, objective: Objective, on_policy: bool, shards: int, text_coefficient: float | None
) -> Callable[..., list[Summand]]:
  """Makes the function from an update's batch to its losses.

  They are the policy's, and that of text if it has a weight.
  """
  loss = policy_gradient.make_loss(graph, objective, on_policy=on_policy, shards=shards)
  if text_coefficient is None:
    return lambda answers: [Summand(loss, answers.parts, answers.totals, answers.count)]
  of_text = supervised.make_loss(graph, logprob_chunk=objective.logprob_chunk, shards=shards)
  of_text = weighted(of_text, text_coefficient, name="ptx")
  return lambda batch: [
    Summand(each, packed.parts, packed.totals, packed.count) for each, packed in zip((loss, of_text), batch)
  ]
