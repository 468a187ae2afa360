"""From the learner's parameters to the sampler's: other dtype, other layout, layers as a list instead of a stack.

One jitted program casts, unstacks and reshards, compiled once. Nothing of the optimiser goes along. On the same devices
the program writes the sampler's layout directly; onto other devices its result is moved with `device_put`. Where the
learner's mesh is that of several processes, each has a sampler of its own, and what its devices hold is its copy.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from posttrain_jax.parallel.processes import own_part
from posttrain_jax.parallel.sharding import SAMPLER_RULES, Rules, state_shardings


def unstack_layers(params: nnx.State, num_layers: int, dtype: Any) -> nnx.State:
  """Casts parameters and turns `blocks`, a stack of layers, into a list of them.

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
  abstract: nnx.State, *, num_layers: int, dtype: Any, mesh: Mesh, rules: Rules = SAMPLER_RULES
) -> Callable[[nnx.State], nnx.State]:
  """Returns the function that hands the learner's parameters to the sampler.

  Where the learner's layers lie in a list already and dtype and layout agree, nothing is copied: the sampler's
  parameters are the learner's own until the next update donates them, after which they have to be handed over again.

  Args:
    abstract: the learner's parameters as ShapeDtypeStructs with their shardings, or arrays.
    num_layers: layers in the stack.
    dtype: the sampler's compute dtype.
    mesh: the sampler's mesh: the learner's own devices (time-shared), this process's part of them, or others.
    rules: the sampler's sharding rules.
  """
  stacked = 0 not in abstract["blocks"]

  def unstack(params):
    return unstack_layers(params, num_layers, dtype) if stacked else jax.tree.map(_copied(dtype), params)

  placed = state_shardings(jax.eval_shape(unstack, abstract), mesh, rules)
  leaves = jax.tree.leaves(abstract)
  sharding = getattr(leaves[0], "sharding", None)  # host arrays have none
  same_devices = sharding is None or sharding.device_set == set(mesh.devices.flat)
  if sharding is not None and not stacked and all(map(_agrees(dtype), leaves, jax.tree.leaves(placed))):
    return lambda params: params
  if same_devices:
    return jax.jit(unstack, out_shardings=placed)
  if not sharding.is_fully_addressable:
    everywhere = state_shardings(jax.eval_shape(unstack, abstract), sharding.mesh, rules)
    unstack = jax.jit(unstack, out_shardings=everywhere)
    return lambda params: own_part(unstack(params), placed)
  unstack = jax.jit(unstack)
  return lambda params: jax.device_put(unstack(params), placed)


def _copied(dtype: Any) -> Callable[[jax.Array], jax.Array]:
  # The copy keeps jit from handing an unchanged input through as its output: the learner's next step donates that
  # buffer, and the sampler's weights would be gone with it.
  return lambda x: jnp.copy(x).astype(dtype)


def _agrees(dtype: Any) -> Callable[[Any, NamedSharding], bool]:
  return lambda leaf, placed: leaf.dtype == dtype and leaf.sharding.is_equivalent_to(placed, leaf.ndim)
