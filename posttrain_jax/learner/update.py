"""Runs one optimiser update: the gradients of its micro-batches are summed in one jitted loop.

Every micro-batch divides by the totals of the whole update. So losses and gradients add up to the same numbers however
the update is cut. The state is donated. If the loss, the gradient or a new parameter of an update is not finite,
parameters and optimiser stay unchanged, and the metrics say so.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from posttrain_jax.compiled_once import made_once
from posttrain_jax.learner.state import TrainState
from posttrain_jax.parallel.memory import on_device
from posttrain_jax.parallel.rounding import AS_WRITTEN
from posttrain_jax.types import NotFinite


class Diverged(NotFinite):
  """Reports that too many updates in a row were not finite."""


@dataclasses.dataclass
class SkippedUpdates:
  """Counts updates in a row that were left out because they were not finite.

  Attributes:
    most: so many in a row end the training.
    in_a_row: how many there were since the last finite update.
  """

  most: int
  in_a_row: int = 0

  def count(self, skipped: bool) -> None:
    """Counts one update.

    Raises:
      Diverged: if `most` updates in a row were skipped.
    """
    self.in_a_row = self.in_a_row + 1 if skipped else 0
    if self.in_a_row >= self.most:
      raise Diverged(f"{self.in_a_row} updates in a row were not finite; the last checkpoint is good")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossOutput:
  """Holds a micro-batch's part of an update's loss and metrics.

  Attributes:
    loss: scalar; the parts of all micro-batches add up to the update's loss.
    sums: scalars that add up in the same way.
    maxima: scalars; the largest over all micro-batches is the update's.
  """

  loss: jax.Array
  sums: dict[str, jax.Array]
  maxima: dict[str, jax.Array]


Batch = TypeVar("Batch")  # a pytree of arrays [B, ...], or [M, B / M, ...] if it is cut into micro-batches
Divisors = TypeVar("Divisors")  # a pytree of scalars: what a loss divides by, over all micro-batches
# (parameters, one micro-batch, totals of the whole update) -> LossOutput
LossFunction = Callable[[nnx.State, Batch, Divisors], LossOutput]
# (state, batch of micro-batches) -> (new state, metrics)
UpdateProgram = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]


@dataclasses.dataclass(frozen=True)
class Summand(Generic[Batch, Divisors]):
  """Holds a loss with the micro-batches that it is summed over.

  Attributes:
    loss: of one micro-batch.
    parts: pytree whose leaves are [M, ...]: M micro-batches.
    totals: pytree of scalars over all micro-batches, handed to each.
    count: int32 [], micro-batches that are computed, known when the program runs; None: all M.
  """

  loss: LossFunction[Batch, Divisors]
  parts: Batch
  totals: Divisors
  count: jax.Array | None = None


def micro_batches(batch: Batch, parts: int) -> Batch:
  """Cuts a batch [B, ...] into micro-batches [M, B / M, ...], M being `parts`."""
  return jax.tree.map(lambda x: x.reshape(parts, len(x) // parts, *x.shape[1:]), batch)


def apply_update(
  summands: Sequence[Summand],
  optimizer: optax.GradientTransformation,
  state: TrainState,
  *,
  computed_at: optax.OptState | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
  """Runs one optimiser update; to be jitted with the state donated.

  Args:
    summands: what is summed to the update's loss.
    optimizer: turns the gradient into an update.
    state: the train state.
    computed_at: shardings on the devices for an optimiser state that is kept in other memory (`parallel.memory`); None
      if it is kept on the devices.

  Returns:
    (new state; metrics: "loss", "grad_norm", "skipped_updates" (1 if the update was not finite and left out) and those
    of the loss functions).
  """
  gradient, outputs = jax.tree.map(jnp.zeros_like, state.params), []
  for summand in summands:
    gradient, output = _add_gradient(summand, state.params, gradient)
    outputs.append(output)
  loss = sum(output.loss.sum() for output in outputs)
  grad_norm = optax.tree.norm(gradient)
  finite = jnp.isfinite(grad_norm) & jnp.isfinite(loss)
  if computed_at is not None:
    # The state is fetched only after the gradient is computed: until then activations need the memory.
    gradient, opt_state = jax.lax.optimization_barrier((gradient, state.opt_state))
    state = dataclasses.replace(state, opt_state=jax.device_put(opt_state, computed_at))
  changes, opt_state = optimizer.update(gradient, state.opt_state, state.params)
  updated = TrainState(
    updates=state.updates + 1, params=optax.apply_updates(state.params, changes), opt_state=opt_state
  )
  # A finite gradient may still give parameters that are not: the square of 1e20 overflows, and so may a sum.
  finite &= jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(updated.params)]).all()
  new = jax.tree.map(lambda after, before: jnp.where(finite, after, before), updated, state)
  metrics = {"loss": loss, "grad_norm": grad_norm, "skipped_updates": 1.0 - finite}
  for output in outputs:
    metrics |= {name: value.sum() for name, value in output.sums.items()}
    metrics |= {name: value.max() for name, value in output.maxima.items()}
  return new, metrics


def _add_gradient(summand: Summand, params: nnx.State, gradient: nnx.State) -> tuple[nnx.State, LossOutput]:
  """Adds the gradients of the micro-batches.

  Returns:
    (the gradient, the losses and metrics [M] of the micro-batches).
  """
  number = len(jax.tree.leaves(summand.parts)[0])

  def contribution(i):
    def loss(params):
      output = summand.loss(params, jax.tree.map(lambda x: x[i], summand.parts), summand.totals)
      return output.loss, output

    return jax.grad(loss, has_aux=True)(params)

  def one(i, carry):
    gradient, outputs = carry
    more, output = contribution(i)
    return jax.tree.map(jnp.add, gradient, more), jax.tree.map(lambda all, x: all.at[i].set(x), outputs, output)

  _, shapes = jax.eval_shape(contribution, 0)
  # Micro-batches that are not computed have sums of 0 and no largest value.
  filled = lambda value: lambda shape: jnp.full((number, *shape.shape), value, shape.dtype)  # noqa: E731
  outputs = jax.tree.map(filled(0), shapes)
  outputs = dataclasses.replace(outputs, maxima=jax.tree.map(filled(-jnp.inf), shapes.maxima))
  return jax.lax.fori_loop(0, number if summand.count is None else summand.count, one, (gradient, outputs))


@made_once
def update_program(
  summands: Callable[[Batch], Sequence[Summand]],
  optimizer: optax.GradientTransformation,
  shardings: TrainState,
  batch_shardings: Any,
) -> UpdateProgram[Batch]:
  """Jits `apply_update` as a program of (state, batch) that donates the state.

  The program is to be called under `jax.set_mesh`.

  Args:
    summands: turns a batch, cut into micro-batches, into what is summed.
    optimizer: turns the gradient into an update.
    shardings: the train state with a sharding in place of every array.
    batch_shardings: of a batch; one sharding, or a pytree that begins as a batch does.
  """
  computed_at = on_device(shardings.opt_state)
  return jax.jit(
    lambda state, batch: apply_update(summands(batch), optimizer, state, computed_at=computed_at),
    in_shardings=(shardings, batch_shardings),
    out_shardings=(shardings, None),
    donate_argnums=0,
    compiler_options=AS_WRITTEN,
  )


def combine(found: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """Combines the metrics of several updates into one dict.

  A metric with "max" in the last part of its name becomes the largest value. `skipped_updates` becomes the number of
  them. All others become means.
  """
  combined: dict[str, float] = {"skipped_updates": 0.0}
  for name in found[0] if found else ():
    values = np.array([metrics[name] for metrics in found], np.float64)
    if name == "skipped_updates":
      combined[name] = float(values.sum())
    else:
      combined[name] = float(values.max() if "max" in name.rpartition("/")[2] else values.mean())
  return combined
