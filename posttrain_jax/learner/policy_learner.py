"""The learner of the policy-gradient loops: owns the train state and the jitted programs that read and write it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.learner import policy_gradient, supervised
from posttrain_jax.learner.mixture import Text, mix
from posttrain_jax.learner.objective import Objective
from posttrain_jax.learner.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
from posttrain_jax.learner.policy_gradient import PolicyBatch, Totals, count_totals
from posttrain_jax.learner.scoring import logprob_scorer
from posttrain_jax.learner.state import make_train_state
from posttrain_jax.learner.update import SkippedUpdates, combine, update_program
from posttrain_jax.learner.update import micro_batches as cut
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.memory import Kept
from posttrain_jax.parallel.processes import spread
from posttrain_jax.parallel.sharding import batch_shards
from posttrain_jax.types import InputError


def check_division(mesh: Mesh, *, prompts_per_update: int, micro_batches: int, rows_per_prompt: int = 1) -> None:
  """Raises InputError where an update's rows do not divide over its micro-batches and the mesh."""
  shards = batch_shards(mesh)
  rows = prompts_per_update * rows_per_prompt
  if micro_batches < 1 or prompts_per_update < 1 or rows_per_prompt < 1 or rows % (micro_batches * shards):
    cut = f" x learner.rows_per_prompt={rows_per_prompt}" if rows_per_prompt != 1 else ""
    raise InputError(
      f"learner: {prompts_per_update} prompts an update{cut} do not divide over "
      f"learner.micro_batches={micro_batches} x data x fsdp = {shards} shards"
    )


class PolicyLearner:
  """Trains a policy on judged answers.

  Attributes:
    state: the train state. Every update donates it, so never keep a reference to its arrays across one.
    shardings: its shardings.
    mesh: where it lives.
    learning_rate: schedule by number of updates.
    update: the programs of an on-policy update (True) and of any other: (state, batch) to (state, metrics).
    skipped: counts updates that were not finite.
    scorer: computes logprobs of answers under any parameters of the policy's shape.
  """

  def __init__(
    self,
    model: TransformerConfig,
    objective: Objective,
    optimizer: OptimizerConfig,
    mesh: Mesh,
    *,
    prompts_per_update: int,
    micro_batches: int,
    rows_per_prompt: int = 1,
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
      optimizer: how.
      mesh: where.
      prompts_per_update: P, groups in one optimiser update.
      micro_batches: M, parts in which their gradients are computed.
      rows_per_prompt: R, rows over which the G answers to a prompt are cut, each with the prompt again; divides G.
      max_skipped_updates: updates in a row that are not finite which end the training.
      seed: of random parameters.
      params: parameters to start from. Random ones if None.
      text: whose likelihood is part of every update; None for none.
      abstract: make the programs and no array (`make_train_state`): such a learner is compiled and cannot train.
      optimizer_kept: in whose memory the optimiser's state is between updates.

    Raises:
      InputError: P R does not divide over micro-batches and mesh.
    """
    division = dict(prompts_per_update=prompts_per_update, micro_batches=micro_batches, rows_per_prompt=rows_per_prompt)
    check_division(mesh, **division)
    shards = batch_shards(mesh)
    self.mesh, self._objective, self._text, self._micro_batches = mesh, objective, text, micro_batches
    self.skipped = SkippedUpdates(max_skipped_updates)
    transformation = make_optimizer(optimizer)
    self.learning_rate: Callable[[int], float] = learning_rate_schedule(optimizer)
    self.state, self.shardings = make_train_state(
      model, transformation, mesh, seed=seed, params=params, abstract=abstract, optimizer_kept=optimizer_kept
    )
    self.scorer = logprob_scorer(model, objective, mesh, **division)

    graph, _ = abstract_transformer(model)

    def program(on_policy: bool) -> Callable:
      loss = policy_gradient.make_loss(graph, objective, on_policy=on_policy, shards=shards)
      totals = _totals
      if text is not None:
        of_text = supervised.make_loss(graph, logprob_chunk=objective.logprob_chunk, shards=shards)
        loss, totals = mix(loss, of_text, coefficient=text.coefficient, name="ptx"), _totals_with_text
      return update_program(loss, totals, transformation, self.shardings, mesh)

    self.update = {on_policy: program(on_policy) for on_policy in (True, False)}

  @property
  def version(self) -> int:
    """Optimiser updates applied so far."""
    return int(self.state.updates)

  def train(self, batch: PolicyBatch, *, order: Sequence[np.ndarray] | None = None) -> dict[str, float]:
    """Runs updates of P prompts each over a batch that the present parameters are the old ones of.

    Args:
      batch: host arrays; the number of prompts is a multiple of P. Old logprobs are computed where it has none; where
        the objective has a KL term it has reference logprobs. An update without a counted token is left out.
      order: for each epoch the indices of the prompts in their order, as many as are trained on; None: one epoch, in
        the order of the batch.

    Returns:
      Metrics: means over the updates, largest values, and counts of skipped updates.

    Raises:
      Diverged: too many updates in a row were not finite.
      ValueError: the objective has a KL term and the batch no reference logprobs.
    """
    if self._objective.kl_coefficient and batch.reference_logprobs is None:
      raise ValueError("reference_logprobs: missing, the objective has a KL term")
    if order is not None:
      if batch.old_logprobs is None:
        batch = dataclasses.replace(batch, old_logprobs=self.score(batch))
      batch = jax.tree.map(lambda x: np.concatenate([x[indices] for indices in order]), batch)
    parts = list(self.scorer.split(batch))
    with jax.set_mesh(self.mesh):
      if batch.old_logprobs is None:
        # The first update is on-policy and computes its own in the same forward pass.
        old = [self.scorer.run(self.state.params, part) for part in parts[1:]]
        parts[1:] = [dataclasses.replace(part, old_logprobs=each) for part, each in zip(parts[1:], old)]
      else:
        parts[:1] = [dataclasses.replace(parts[0], old_logprobs=None)]
      found, version = [], self.version
      for i, part in enumerate(parts):
        if np.any(part.mask):
          batch = spread(self.with_text(part, version + len(found)), self.scorer.batch_sharding)
          self.state, metrics = self.update[i == 0](self.state, batch)
          found.append(metrics)
    found = jax.device_get(found)
    for metrics in found:
      self.skipped.count(bool(metrics["skipped_updates"]))
    return combine(found)

  def with_text(self, part: PolicyBatch, version: int) -> Any:
    """What an update is given: its part of a batch, as `scorer` cuts it, and its text where there is one."""
    if self._text is None:
      return part
    return part, cut(self._text.batch(version), self._micro_batches)

  def score(self, batch: PolicyBatch) -> np.ndarray:
    """The current parameters' logprobs [P, G, Tc] of a batch's answers; arbitrary where the mask is False."""
    return self.scorer(self.state.params, batch)


def _totals(batch: PolicyBatch) -> Totals:
  return count_totals(batch.mask, batch.correct, batch.prompt_tokens)


def _totals_with_text(batch: tuple[PolicyBatch, Any]) -> tuple[Totals, jax.Array]:
  return _totals(batch[0]), supervised.total_weight(batch[1])
