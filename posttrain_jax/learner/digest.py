"""A digest of parameters: equal if and only if every leaf is equal, bit for bit."""

import hashlib
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def leaf_name(path: tuple[Any, ...]) -> str:
  """The key path of a leaf as one readable name, `params/blocks/up/value`."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def _fetch(leaf: jax.Array | np.ndarray) -> np.ndarray:
  """The whole leaf on the host, leaving no copy behind on the device array."""
  if not isinstance(leaf, jax.Array):
    return np.asarray(leaf)
  if not leaf.is_fully_addressable:
    return multihost_utils.process_allgather(leaf, tiled=True)
  # An array keeps the host copy made of it, and these would add up to the whole model. The copy made of a second
  # array over the same buffers goes away with that.
  handle = jax.make_array_from_single_device_arrays(
    leaf.shape, leaf.sharding, [shard.data for shard in leaf.addressable_shards]
  )
  return np.asarray(handle)


def params_sha256(tree: Any) -> str:
  """SHA-256 of a pytree's leaves in the order of their paths; one leaf at a time is on the host.

  Of each leaf its path, dtype, shape and C-order bytes count; its sharding does not. With several processes all of them
  have to call this together.

  Args:
    tree: a pytree of arrays, for instance the parameters as an `nnx.State`.

  Returns:
    64 hexadecimal digits.
  """
  digest = hashlib.sha256()
  named = [(leaf_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
  for name, leaf in sorted(named, key=lambda item: item[0]):
    array = _fetch(leaf)
    digest.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
  return digest.hexdigest()
