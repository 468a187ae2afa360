"""The mesh-aware train state: made in its shardings, so that no host ever holds a whole model."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import Transformer
from posttrain_jax.parallel.memory import Kept, keep
from posttrain_jax.parallel.processes import place
from posttrain_jax.parallel.sharding import LEARNER_RULES, Rules, state_shardings


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """What an optimiser update reads and writes, and all of it.

  Attributes:
    updates: int32 [], optimiser updates applied so far: the version of `params`, and what schedules count.
    params: float32 parameters of a transformer with stacked layers, as an NNX state.
    opt_state: the optimiser's state, laid out like the parameters.
  """

  updates: jax.Array
  params: nnx.State
  opt_state: optax.OptState


def make_train_state(
  config: TransformerConfig,
  optimizer: optax.GradientTransformation,
  mesh: Mesh,
  *,
  seed: int,
  params: nnx.State | None = None,
  rules: Rules = LEARNER_RULES,
  abstract: bool = False,
  optimizer_kept: Kept = Kept.DEVICE,
) -> tuple[TrainState, Any]:
  """Makes a train state in its shardings, from random or from given parameters.

  Args:
    config: the transformer.
    optimizer: whose state to make.
    mesh: where it lives.
    seed: of the random parameters.
    params: parameters to start from; random ones if None.
    rules: logical axis to mesh axis.
    abstract: make no array, only its ShapeDtypeStructs with shardings: for a mesh of devices that are not there.
    optimizer_kept: in whose memory the optimiser's state is.

  Returns:
    (state, the tree of its shardings).

  Raises:
    InputError: a parameter that does not divide over the mesh.
  """

  def new(params: nnx.State | None) -> TrainState:
    if params is None:
      params = nnx.state(Transformer(config, nnx.Rngs(params=seed)))
    return TrainState(updates=jnp.zeros((), jnp.int32), params=params, opt_state=optimizer.init(params))

  shapes = jax.eval_shape(new, params)
  shardings = state_shardings(shapes, mesh, rules)
  shardings = dataclasses.replace(shardings, opt_state=keep(shardings.opt_state, optimizer_kept))
  if abstract:
    return abstract_like(shapes, shardings), shardings
  return _make(new, shardings, params), shardings


def _make(new: Callable, shardings: Any, params: nnx.State | None) -> TrainState:
  if params is None:
    return jax.jit(lambda: new(None), out_shardings=shardings)()
  placed = place(params, shardings.params)
  if all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(params)):
    return jax.jit(new, out_shardings=shardings, donate_argnums=0)(placed)
  # Arrays that were on devices already may share their buffers with what `device_put` returns, whatever it is asked.
  return jax.jit(lambda given: new(jax.tree.map(jnp.copy, given)), out_shardings=shardings)(placed)


def abstract_like(state: Any, shardings: Any) -> Any:
  """A train state, or part of one, as ShapeDtypeStructs with shardings: the target of a restore."""
  return jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state, shardings
  )


def with_more(state: TrainState, **more: Any) -> dict[str, Any]:
  """What a checkpoint holds of a run with more than one set of arrays: the train state's fields and what else there is.

  The fields stay on top, where whoever reads the run as a model finds `params`. For shardings and abstract states too.
  """
  return {field.name: getattr(state, field.name) for field in dataclasses.fields(TrainState)} | more


def train_state_of(saved: dict[str, Any]) -> TrainState:
  """The train state among what `with_more` put together."""
  return TrainState(**{field.name: saved[field.name] for field in dataclasses.fields(TrainState)})
