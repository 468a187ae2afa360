"""Maps logical axis names to mesh axes.

There is one table for the learner and one for the sampler. Parameters carry names such as ("embed", "heads",
"head_dim"), and activations are constrained by names too. Only these tables say what a name means on the mesh.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posttrain_jax.types import InputError

MeshAxes = str | tuple[str, ...] | None
Rules = Mapping[str, MeshAxes]

BATCH = ("data", "fsdp")

LEARNER_RULES: Rules = {
  # parameters
  "layers": None,
  "vocab": "tensor",
  "embed": "fsdp",
  "heads": "tensor",
  "kv_heads": "tensor",
  "head_dim": None,
  "mlp": "tensor",
  # activations; their width is "hidden" and not "embed", because the batch already uses the fsdp axis
  "batch": BATCH,
  "length": None,
  "hidden": None,
  # The length of the residual stream between the blocks; inside a block rows are whole. So the activations that the
  # backward pass keeps for each layer are split over `tensor`, as its weights are (sequence parallelism, 2205.05198).
  "residual_length": "tensor",
}

# The sampler reads every weight once a token. Gathering weights over fsdp at each token would cost more than the
# arithmetic, so its parameters are split over `tensor` alone.
SAMPLER_RULES: Rules = {**LEARNER_RULES, "embed": None}


def partition_spec(logical_axes: tuple[str | None, ...], rules: Rules) -> PartitionSpec:
  """Maps logical axis names to a PartitionSpec.

  Raises:
    InputError: if a name has no rule, or two names of one array map to the same mesh axis.
  """
  entries, used = [], {}
  for name in logical_axes:
    if name is not None and name not in rules:
      raise InputError(f"sharding rules: no rule for logical axis {name!r}; known are {', '.join(rules)}")
    entry = rules[name] if name is not None else None
    for axis in (entry,) if isinstance(entry, str) else entry or ():
      if axis in used:
        raise InputError(
          f"sharding rules: logical axes {used[axis]!r} and {name!r} of {logical_axes} both map to mesh axis {axis!r}"
        )
      used[axis] = name
    entries.append(entry)
  return PartitionSpec(*entries)


def state_shardings(abstract: Any, mesh: Mesh, rules: Rules) -> Any:
  """Returns the shardings of a pytree of NNX variables with `logical_axes` metadata.

  Args:
    abstract: pytree of arrays or ShapeDtypeStructs: parameters, optimiser state or a whole train state. A variable with
      one more axis than names is a stack of layers. Leaves that are not variables (counters) are replicated.
    mesh: the mesh.
    rules: the mesh axes of each logical axis.

  Returns:
    The same tree with a NamedSharding in place of every array.

  Raises:
    InputError: if the mesh axes of a dimension do not divide it; the message names the parameter.
  """

  def one(path, leaf):
    if not isinstance(leaf, nnx.Variable):
      return NamedSharding(mesh, PartitionSpec())
    axes, shape = leaf.get_metadata("logical_axes"), leaf.get_value().shape
    spec = partition_spec(("layers",) * (len(shape) - len(axes)) + tuple(axes), rules)
    for size, entry in zip(shape, spec):
      ways = math.prod(mesh.shape[axis] for axis in ((entry,) if isinstance(entry, str) else entry or ()))
      if size % ways:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        raise InputError(f"mesh: {name} {shape} with axes {axes} is not divisible by {entry}={ways}")
    return leaf.replace(NamedSharding(mesh, spec))

  return jax.tree_util.tree_map_with_path(one, abstract, is_leaf=lambda x: isinstance(x, nnx.Variable))


def batch_sharding(mesh: Mesh, *, leading: int = 0) -> NamedSharding:
  """Returns the sharding that splits an axis over `data` and `fsdp`, after `leading` unsplit axes."""
  return NamedSharding(mesh, PartitionSpec(*(None,) * leading, BATCH))


def batch_shards(mesh: Mesh) -> int:
  """Returns the number of parts into which the batch axis is split."""
  return math.prod(mesh.shape[axis] for axis in BATCH)


def ways(name: str, rules: Rules = LEARNER_RULES) -> int:
  """Returns the number of parts of a logical axis on the current mesh; 1 without one."""
  mesh, entry = jax.sharding.get_abstract_mesh(), rules[name]
  axes = (entry,) if isinstance(entry, str) else entry or ()
  return 1 if mesh.empty else math.prod(mesh.shape[axis] for axis in axes)


def constrain(x: jax.Array, *logical_axes: str | None, rules: Rules = LEARNER_RULES) -> jax.Array:
  """Constrains an activation to the layout of its axis names; does nothing outside `jax.set_mesh`."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return x
  return jax.lax.with_sharding_constraint(x, partition_spec(logical_axes, rules))
