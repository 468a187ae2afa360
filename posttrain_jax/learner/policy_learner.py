"""The learner of the policy-gradient loops: owns the train state and the jitted programs that read and write it."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.learner import policy_gradient
from posttrain_jax.learner.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
from posttrain_jax.learner.policy_gradient import Objective, PolicyBatch, count_totals
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
      params: parameters to start from; also the reference, if the objective has a KL term. Random ones if None.

    Raises:
      InputError: P does not divide over micro-batches and mesh.
    """
    check_division(mesh, prompts_per_update=prompts_per_update, micro_batches=micro_batches)
    shards = batch_shards(mesh)
    self.mesh, self._objective, self._micro_batches = mesh, objective, micro_batches
    self._prompts_per_update = prompts_per_update
    self.skipped = SkippedUpdates(max_skipped_updates)
    transformation = make_optimizer(optimizer)
    self.learning_rate: Callable[[int], float] = learning_rate_schedule(optimizer)
    self.state, self.shardings = make_train_state(model, transformation, mesh, seed=seed, params=params)
    # The reference is frozen and only read, so it is kept as what is computed with.
    self._reference = None
    if objective.kl_coefficient:
      freeze = jax.jit(
        lambda params: jax.tree.map(lambda x: jnp.copy(x).astype(model.compute_dtype), params),
        out_shardings=self.shardings.params,
      )
      self._reference = freeze(self.state.params)

    graph, _ = abstract_transformer(model)
    self._batch_sharding = batch_sharding(mesh, leading=1)
    self._update = {
      on_policy: self._compile_update(
        policy_gradient.make_loss(graph, objective, on_policy=on_policy, shards=shards), transformation
      )
      for on_policy in (True, False)
    }

    def score(params: nnx.State, batch: PolicyBatch) -> jax.Array:
      one = functools.partial(policy_gradient.answer_logprobs, graph, objective, params, shards=shards)
      return jax.lax.map(lambda micro_batch: one(micro_batch)[0], batch)

    self._score = jax.jit(
      score, in_shardings=(self.shardings.params, self._batch_sharding), out_shardings=self._batch_sharding
    )

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

  def train(self, batch: PolicyBatch) -> dict[str, float]:
    """Runs as many updates as the batch has groups of P prompts, in order, each group once.

    Args:
      batch: host arrays; the number of prompts is a multiple of P. An update without a counted token is left out.

    Returns:
      Metrics: means over the updates, largest values, and counts of skipped updates.

    Raises:
      Diverged: too many updates in a row were not finite.
    """
    parts = list(self._split(batch))
    with jax.set_mesh(self.mesh):
      if self._reference is not None:
        parts = [self._with(part, "reference_logprobs", self._reference) for part in parts]
      # The first update is on-policy and computes its old logprobs itself.
      parts = parts[:1] + [self._with(part, "old_logprobs", self.state.params) for part in parts[1:]]
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
    with jax.set_mesh(self.mesh):
      parts = [jax.device_get(self._score(self.state.params, part)) for part in self._split(batch)]
    # [updates][M, P / M, ...] back to the order of the prompts.
    return np.concatenate([np.concatenate(list(part)) for part in parts])

  def _split(self, batch: PolicyBatch) -> Iterator[PolicyBatch]:
    """Cuts a batch into updates, and each into micro-batches [M, P / M, ...]."""
    size, parts = self._prompts_per_update, self._micro_batches
    for start in range(0, len(batch.prompts), size):
      yield jax.tree.map(lambda x, s=start: x[s : s + size].reshape(parts, size // parts, *x.shape[1:]), batch)

  def _with(self, part: PolicyBatch, field: str, params: nnx.State) -> PolicyBatch:
    return dataclasses.replace(part, **{field: self._score(params, part)})


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
