"""The learner of the policy-gradient loops: owns the train state and the jitted programs that read and write it."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.learner import policy_gradient
from posttrain_jax.learner.objective import Objective
from posttrain_jax.learner.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
from posttrain_jax.learner.policy_gradient import PolicyBatch, count_totals
from posttrain_jax.learner.scoring import Scorer
from posttrain_jax.learner.state import make_train_state
from posttrain_jax.learner.update import SkippedUpdates, apply_update
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.sharding import batch_sharding, batch_shards
from posttrain_jax.types import InputError


def check_division(mesh: Mesh, *, prompts_per_update: int, micro_batches: int) -> None:
  """Raises InputError where an update's prompts do not divide over its micro-batches and the mesh."""
  shards = batch_shards(mesh)
  if micro_batches < 1 or prompts_per_update < 1 or prompts_per_update % (micro_batches * shards):
    raise InputError(
      f"learner: {prompts_per_update} prompts an update do not divide over learner.micro_batches={micro_batches} x "
      f"data x fsdp = {shards} shards"
    )


class PolicyLearner:
  """Trains a policy on judged answers.

  Attributes:
    state: the train state. Every update donates it, so never keep a reference to its arrays across one.
    shardings: its shardings.
    mesh: where it lives.
    learning_rate: schedule by number of updates.
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
    max_skipped_updates: int,
    seed: int,
    params: nnx.State | None = None,
  ):
    """Makes the state and the programs.

    Args:
      model: the transformer, layers stacked.
      objective: what to minimise.
      optimizer: how.
      mesh: where.
      prompts_per_update: P, groups in one optimiser update.
      micro_batches: M, parts in which their gradients are computed.
      max_skipped_updates: updates in a row that are not finite which end the training.
      seed: of random parameters.
      params: parameters to start from. Random ones if None.

    Raises:
      InputError: P does not divide over micro-batches and mesh.
    """
    check_division(mesh, prompts_per_update=prompts_per_update, micro_batches=micro_batches)
    shards = batch_shards(mesh)
    self.mesh, self._objective = mesh, objective
    self.skipped = SkippedUpdates(max_skipped_updates)
    transformation = make_optimizer(optimizer)
    self.learning_rate: Callable[[int], float] = learning_rate_schedule(optimizer)
    self.state, self.shardings = make_train_state(model, transformation, mesh, seed=seed, params=params)
    self.scorer = Scorer(model, objective, mesh, prompts_per_update=prompts_per_update, micro_batches=micro_batches)

    graph, _ = abstract_transformer(model)
    self._batch_sharding = batch_sharding(mesh, leading=1)
    self._update = {
      on_policy: self._compile_update(
        policy_gradient.make_loss(graph, objective, on_policy=on_policy, shards=shards), transformation
      )
      for on_policy in (True, False)
    }

  def _compile_update(self, loss: Callable, transformation: optax.GradientTransformation) -> Callable:
    def update(state, batch: PolicyBatch):
      return apply_update(loss, transformation, state, batch, count_totals(batch.mask))

    return jax.jit(
      update,
      in_shardings=(self.shardings, self._batch_sharding),
      out_shardings=(self.shardings, None),
      donate_argnums=0,
    )

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
        old = [self.scorer.program(self.state.params, part) for part in parts[1:]]
        parts[1:] = [dataclasses.replace(part, old_logprobs=each) for part, each in zip(parts[1:], old)]
      else:
        parts[:1] = [dataclasses.replace(parts[0], old_logprobs=None)]
      found = []
      for i, part in enumerate(parts):
        if np.any(part.mask):
          self.state, metrics = self._update[i == 0](self.state, part)
          found.append(metrics)
    found = jax.device_get(found)
    for metrics in found:
      self.skipped.count(bool(metrics["skipped_updates"]))
    return _combine(found)

  def score(self, batch: PolicyBatch) -> np.ndarray:
    """The current parameters' logprobs [P, G, Tc] of a batch's answers; arbitrary where the mask is False."""
    return self.scorer(self.state.params, batch)


def _combine(found: list[dict[str, np.ndarray]]) -> dict[str, float]:
  """One dict from one per update: the largest of maxima, the number of skipped updates, means of all else."""
  combined: dict[str, float] = {"skipped_updates": 0.0}
  for name in found[0] if found else ():
    values = np.array([metrics[name] for metrics in found], np.float64)
    if name == "skipped_updates":
      combined[name] = float(values.sum())
    else:
      combined[name] = float(values.max() if "max" in name.rpartition("/")[2] else values.mean())
  return combined
