"""Owns a train state and the jitted program that updates it, for losses on fixed batches: SFT, reward models, DPO."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.learner.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
from posttrain_jax.learner.state import make_train_state
from posttrain_jax.learner.update import LossFunction, SkippedUpdates, apply_update
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.parallel.memory import Kept, on_device
from posttrain_jax.parallel.processes import spread
from posttrain_jax.parallel.sharding import batch_sharding, batch_shards
from posttrain_jax.types import InputError


class BatchLearner:
  """Minimises a loss, one batch an update.

  Attributes:
    state: the train state. Every update donates it.
    shardings: its shardings.
    mesh: where it lives.
    learning_rate: schedule by number of updates.
    skipped: counts updates that were not finite.
  """

  def __init__(
    self,
    model: TransformerConfig,
    loss: LossFunction,
    totals: Callable[[Any], Any],
    optimizer: OptimizerConfig,
    mesh: Mesh,
    *,
    micro_batches: int,
    max_skipped_updates: int,
    seed: int,
    params: nnx.State | None = None,
    optimizer_kept: Kept = Kept.DEVICE,
  ):
    """Makes the state and the program.

    Args:
      model: the transformer, layers stacked.
      loss: of one micro-batch.
      totals: a batch, cut into micro-batches on a leading axis, to what `loss` divides by.
      optimizer: how to minimise.
      mesh: where.
      micro_batches: M, parts in which an update's gradient is computed.
      max_skipped_updates: updates in a row that are not finite which end the training.
      seed: of random parameters.
      params: parameters to start from; random ones if None.
      optimizer_kept: in whose memory the optimiser's state is between updates.
    """
    self.mesh, self._micro_batches, self.skipped = mesh, micro_batches, SkippedUpdates(max_skipped_updates)
    transformation = make_optimizer(optimizer)
    self.learning_rate: Callable[[int], float] = learning_rate_schedule(optimizer)
    self.state, self.shardings = make_train_state(
      model, transformation, mesh, seed=seed, params=params, optimizer_kept=optimizer_kept
    )
    kept = on_device(self.shardings.opt_state)
    self._sharding = batch_sharding(mesh, leading=1)
    self._update = jax.jit(
      lambda state, batch: apply_update(loss, transformation, state, batch, totals(batch), on_device=kept),
      in_shardings=(self.shardings, self._sharding),
      out_shardings=(self.shardings, None),
      donate_argnums=0,
    )

  @property
  def version(self) -> int:
    """Updates applied so far."""
    return int(self.state.updates)

  def train(self, batch: Any) -> dict[str, float]:
    """One optimiser update on a batch of host arrays [B, ...]: its metrics. May raise Diverged."""
    learning_rate, parts = float(self.learning_rate(self.version)), self._micro_batches
    batch = jax.tree.map(lambda x: x.reshape(parts, len(x) // parts, *x.shape[1:]), batch)
    with jax.set_mesh(self.mesh):
      self.state, metrics = self._update(self.state, spread(batch, self._sharding))
    metrics = {name: float(np.asarray(value)) for name, value in jax.device_get(metrics).items()}
    self.skipped.count(bool(metrics["skipped_updates"]))
    return {"learning_rate": learning_rate, **metrics}


def check_division(mesh: Mesh, *, batch_size: int, micro_batches: int) -> None:
  """Raises InputError where a batch does not divide over its micro-batches and the mesh."""
  shards = batch_shards(mesh)
  if micro_batches < 1 or batch_size < 1 or batch_size % (micro_batches * shards):
    raise InputError(
      f"batch_size: {batch_size} rows do not divide over micro_batches={micro_batches} x data x fsdp = {shards} shards"
    )
