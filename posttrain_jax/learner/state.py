"""Makes the train state directly in its shardings: no host ever holds a whole model."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from posttrain_jax import compiled_once
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import Transformer
from posttrain_jax.parallel.memory import Kept, keep
from posttrain_jax.parallel.processes import place
from posttrain_jax.parallel.sharding import LEARNER_RULES, Rules, state_shardings


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """Holds all that an optimiser update reads and writes.

  Attributes:
    updates: int32 [], optimiser updates applied so far. It is the version of `params`, and schedules count it.
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
) -> tuple[TrainState, TrainState]:
  """Makes a train state in its shardings, from random or from given parameters.

  Args:
    config: the transformer.
    optimizer: the optimiser, whose state is made too.
    mesh: where the state lives.
    seed: of the random parameters.
    params: parameters to start from; random ones if None.
    rules: logical axis to mesh axis.
    abstract: make ShapeDtypeStructs with shardings instead of arrays, for a mesh of devices that do not exist here.
    optimizer_kept: in which memory the optimiser's state is.

  Returns:
    (state, the same record with a sharding in place of every array).

  Raises:
    InputError: if a parameter does not divide over the mesh.
  """
  new = functools.partial(_random, config, optimizer) if params is None else functools.partial(_given, optimizer)
  shapes = jax.eval_shape(new, _seed(seed) if params is None else params)
  shardings = state_shardings(shapes, mesh, rules)
  shardings = dataclasses.replace(shardings, opt_state=keep(shardings.opt_state, optimizer_kept))
  if abstract:
    return abstract_like(shapes, shardings), shardings
  if params is None:
    return compiled_once.jit(new, out_shardings=shardings)(_seed(seed)), shardings
  placed = place(params, shardings.params)
  if all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(params)):
    return compiled_once.jit(new, out_shardings=shardings, donate_argnums=0)(placed), shardings
  # Arrays that are on devices already may share their buffers with the result of `device_put`, even with
  # `may_alias=False`; and the state's buffers will be donated.
  return compiled_once.jit(functools.partial(_copied, optimizer), out_shardings=shardings)(placed), shardings


def _seed(seed: int) -> np.uint32:
  return np.uint32(seed % 2**32)  # an argument of the program, so that one program serves all seeds


def _random(config: TransformerConfig, optimizer: optax.GradientTransformation, seed: jax.Array) -> TrainState:
  return _given(optimizer, nnx.state(Transformer(config, nnx.Rngs(params=jax.random.key(seed)))))


def _given(optimizer: optax.GradientTransformation, params: nnx.State) -> TrainState:
  return TrainState(updates=jnp.zeros((), jnp.int32), params=params, opt_state=optimizer.init(params))


def _copied(optimizer: optax.GradientTransformation, params: nnx.State) -> TrainState:
  return _given(optimizer, jax.tree.map(jnp.copy, params))


def abstract_like(state: Any, shardings: Any) -> Any:
  """Returns a state, or part of one, as ShapeDtypeStructs: the target of a restore."""
  return jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state, shardings
  )


def with_more(state: TrainState, **more: Any) -> dict[str, Any]:
  """Returns the content of a checkpoint that holds more arrays than the train state's.

  The train state's fields stay on top, so that a reader who wants the model only finds `params`. It works for shardings
  and abstract states too.
  """
  return {field.name: getattr(state, field.name) for field in dataclasses.fields(TrainState)} | more


def train_state_of(saved: dict[str, Any]) -> TrainState:
  """Returns the train state out of a result of `with_more`."""
  return TrainState(**{field.name: saved[field.name] for field in dataclasses.fields(TrainState)})
