"""Owns the train state of supervised fine-tuning and the jitted program that updates it."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.learner import supervised
from posttrain_jax.learner.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
from posttrain_jax.learner.state import make_train_state
from posttrain_jax.learner.update import SkippedUpdates, apply_update
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.parallel.sharding import batch_sharding, batch_shards
from posttrain_jax.types import InputError


class SupervisedLearner:
  """Fine-tunes a model on demonstrations.

  Attributes:
    state: the train state. Every update donates it.
    shardings: its shardings.
    learning_rate: schedule by number of updates.
    skipped: counts updates that were not finite.
  """

  def __init__(
    self,
    model: TransformerConfig,
    optimizer: OptimizerConfig,
    mesh: Mesh,
    *,
    micro_batches: int,
    logprob_chunk: int,
    max_skipped_updates: int,
    seed: int,
    params: nnx.State | None = None,
  ):
    """Makes the state and the program; arguments as in `policy_learner.PolicyLearner`."""
    self.mesh, self._micro_batches, self.skipped = mesh, micro_batches, SkippedUpdates(max_skipped_updates)
    transformation = make_optimizer(optimizer)
    self.learning_rate: Callable[[int], float] = learning_rate_schedule(optimizer)
    self.state, self.shardings = make_train_state(model, transformation, mesh, seed=seed, params=params)
    graph, _ = abstract_transformer(model)
    loss = supervised.make_loss(graph, logprob_chunk=logprob_chunk, shards=batch_shards(mesh))
    self._update = jax.jit(
      lambda state, batch: apply_update(loss, transformation, state, batch, batch.mask[..., 1:].sum()),
      in_shardings=(self.shardings, batch_sharding(mesh, leading=1)),
      out_shardings=(self.shardings, None),
      donate_argnums=0,
    )

  def train(self, batch: Any) -> dict[str, float]:
    """One optimiser update on a `data.supervised.SupervisedBatch` of host arrays: its metrics; may raise Diverged."""
    parts = self._micro_batches
    batch = jax.tree.map(lambda x: x.reshape(parts, len(x) // parts, *x.shape[1:]), batch)
    with jax.set_mesh(self.mesh):
      self.state, metrics = self._update(self.state, batch)
    metrics = {name: float(np.asarray(value)) for name, value in jax.device_get(metrics).items()}
    self.skipped.count(bool(metrics["skipped_updates"]))
    return metrics


def check_division(mesh: Mesh, *, batch_size: int, micro_batches: int) -> None:
  """Raises InputError where a batch does not divide over its micro-batches and the mesh."""
  shards = batch_shards(mesh)
  if micro_batches < 1 or batch_size < 1 or batch_size % (micro_batches * shards):
    raise InputError(
      f"batch_size: {batch_size} rows do not divide over micro_batches={micro_batches} x data x fsdp = {shards} shards"
    )
