"""Trains on fixed batches: SFT, reward models, DPO.

The learner owns the train state and the jitted program that updates it.
"""

import dataclasses
from collections.abc import Callable
from typing import Generic

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.compiled_once import made_once
from posttrain_jax.learner.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer, start
from posttrain_jax.learner.packed_rows import Packed, Parts, packed_shardings
from posttrain_jax.learner.state import make_train_state
from posttrain_jax.learner.update import Batch, Divisors, LossFunction, SkippedUpdates, Summand, update_program
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.parallel.memory import Kept
from posttrain_jax.parallel.processes import spread
from posttrain_jax.parallel.sharding import batch_shards
from posttrain_jax.types import InputError


class BatchLearner(Generic[Batch]):
  """Minimises a loss, one batch an update.

  Attributes:
    state: the train state. Every update donates it.
    shardings: its shardings.
    mesh: where it lives.
    learning_rate: schedule by number of updates.
    pack: turns a batch of host arrays into micro-batches.
    update: the program: (state, micro-batches) to (state, metrics).
    batch_shardings: of the micro-batches.
    skipped: counts updates that were not finite and changed nothing.
  """

  def __init__(
    self,
    model: TransformerConfig,
    loss: LossFunction[Parts, Divisors],
    pack: Callable[[Batch], Packed[Parts, Divisors]],
    optimizer: OptimizerConfig,
    mesh: Mesh,
    *,
    max_skipped_updates: int,
    seed: int,
    params: nnx.State | None = None,
    abstract: bool = False,
    optimizer_kept: Kept = Kept.DEVICE,
  ):
    """Makes the state and the program.

    Args:
      model: the transformer, layers stacked.
      loss: of one micro-batch.
      pack: a batch of host arrays to its micro-batches and the numbers that `loss` divides by.
      optimizer: optimiser and learning-rate schedule.
      mesh: the devices that compute.
      max_skipped_updates: training ends after this many updates in a row that are not finite.
      seed: of random parameters.
      params: parameters to start from; random ones if None.
      abstract: make the programs and no array (`make_train_state`): such a learner is compiled and cannot train.
      optimizer_kept: in which memory the optimiser's state is between updates.
    """
    self.mesh, self.pack, self.skipped = mesh, pack, SkippedUpdates(max_skipped_updates)
    transformation = make_optimizer(optimizer)
    self.learning_rate: Callable[[int], float] = learning_rate_schedule(optimizer)
    self.state, self.shardings = make_train_state(
      model, transformation, mesh, seed=seed, params=params, abstract=abstract, optimizer_kept=optimizer_kept
    )
    if not abstract:
      self.state = dataclasses.replace(self.state, opt_state=start(optimizer, self.state.opt_state))
    self.batch_shardings = packed_shardings(mesh)
    self.update = update_program(_summands(loss), transformation, self.shardings, self.batch_shardings)

  @property
  def version(self) -> int:
    """Counts the updates applied so far."""
    return int(self.state.updates)

  def train(self, batch: Batch) -> dict[str, float]:
    """Runs one optimiser update on a batch of host arrays.

    Returns:
      Metrics: the learning rate and those of `learner.update.apply_update`.

    Raises:
      Diverged: if too many updates in a row were not finite.
    """
    learning_rate = float(self.learning_rate(self.version))
    with jax.set_mesh(self.mesh):
      self.state, metrics = self.update(self.state, spread(self.pack(batch), self.batch_shardings))
    metrics = {name: float(np.asarray(value)) for name, value in jax.device_get(metrics).items()}
    self.skipped.count(bool(metrics["skipped_updates"]))
    return {"learning_rate": learning_rate, **metrics}


def check_division(mesh: Mesh, *, batch_size: int, micro_batches: int) -> None:
  """Checks that a batch divides over its micro-batches and the mesh.

  Raises:
    InputError: if it does not.
  """
  shards = batch_shards(mesh)
  if micro_batches < 1 or batch_size < 1 or batch_size % (micro_batches * shards):
    raise InputError(
      f"batch_size: {batch_size} rows do not divide over micro_batches={micro_batches} x data x fsdp = {shards} shards"
    )


@made_once
def _summands(loss: LossFunction[Parts, Divisors]) -> Callable[[Packed[Parts, Divisors]], list[Summand]]:
  """Makes the function from an update's micro-batches to its loss."""
  return lambda batch: [Summand(loss, batch.parts, batch.totals, batch.count)]
