"""Hands the learner's parameters to the sampler, in the sampler's dtype and layout.

One jitted program, compiled once, casts the parameters, turns the stack of layers into a list, and reshards. It leaves
out the optimiser's state. If both use the same devices, the program writes the sampler's layout directly; otherwise
`device_put` moves its result. If the learner's mesh spans several processes, each process has its own sampler, which
uses the copy on the process's own devices.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.typing import DTypeLike

from posttrain_jax import compiled_once
from posttrain_jax.parallel.processes import own_part
from posttrain_jax.parallel.sharding import SAMPLER_RULES, Rules, state_shardings


def unstack_layers(params: nnx.State, num_layers: int, dtype: DTypeLike) -> nnx.State:
  """Casts parameters and turns the stack of layers, `blocks`, into a list.

  Args:
    params: parameters of a transformer with `stacked=True`.
    num_layers: length of the stack.
    dtype: dtype of the result.

  Returns:
    Parameters of the same transformer with `stacked=False`. Variables keep their metadata.
  """
  cast = jax.tree.map(_copied(dtype), params)
  layers = {i: jax.tree.map(lambda x, i=i: x[i], cast["blocks"]) for i in range(num_layers)}
  return nnx.State({**{name: cast[name] for name in cast if name != "blocks"}, "blocks": nnx.State(layers)})


def make_handover(
  abstract: nnx.State, *, num_layers: int, dtype: DTypeLike, mesh: Mesh, rules: Rules = SAMPLER_RULES
) -> Callable[[nnx.State], nnx.State]:
  """Returns the function that hands the learner's parameters to the sampler.

  If the learner's layers are a list already and dtype and layout agree, nothing is copied: the sampler uses the
  learner's own arrays. The next update donates these arrays, so they have to be handed over again after it.

  Args:
    abstract: the learner's parameters as ShapeDtypeStructs with their shardings, or arrays.
    num_layers: number of layers in the stack.
    dtype: the sampler's compute dtype.
    mesh: the sampler's mesh: the learner's own devices (time-shared), this process's part of them, or other devices.
    rules: the sampler's sharding rules.

  Returns:
    A function from the learner's parameters to the sampler's.
  """
  stacked = 0 not in abstract["blocks"]
  unstack = functools.partial(_unstack, num_layers, dtype) if stacked else functools.partial(_copy, dtype)

  placed = state_shardings(jax.eval_shape(unstack, abstract), mesh, rules)
  leaves = jax.tree.leaves(abstract)
  sharding = getattr(leaves[0], "sharding", None)  # host arrays have none
  same_devices = sharding is None or sharding.device_set == set(mesh.devices.flat)
  if sharding is not None and not stacked and all(map(_agrees(dtype), leaves, jax.tree.leaves(placed))):
    return lambda params: params
  if same_devices:
    return compiled_once.jit(unstack, out_shardings=placed)
  if not sharding.is_fully_addressable:
    everywhere = state_shardings(jax.eval_shape(unstack, abstract), sharding.mesh, rules)
    unstack = compiled_once.jit(unstack, out_shardings=everywhere)
    return lambda params: own_part(unstack(params), placed)
  unstack = compiled_once.jit(unstack)
  return lambda params: jax.device_put(unstack(params), placed)


def _unstack(num_layers: int, dtype: DTypeLike, params: nnx.State) -> nnx.State:
  return unstack_layers(params, num_layers, dtype)


def _copy(dtype: DTypeLike, params: nnx.State) -> nnx.State:
  return jax.tree.map(_copied(dtype), params)


def _copied(dtype: DTypeLike) -> Callable[[jax.Array], jax.Array]:
  # Without the copy, jit returns an unchanged input's buffer as its output. The learner's next step donates that
  # buffer, and the sampler's weights would be deleted with it.
  return lambda x: jnp.copy(x).astype(dtype)


def _agrees(dtype: DTypeLike) -> Callable[[jax.Array | jax.ShapeDtypeStruct, NamedSharding], bool]:
  return lambda leaf, placed: leaf.dtype == dtype and leaf.sharding.is_equivalent_to(placed, leaf.ndim)
