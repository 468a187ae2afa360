"""Computes a digest of parameters: equal exactly if all leaves are equal, bit for bit."""

import hashlib
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def leaf_name(path: tuple[Any, ...]) -> str:
  """Returns a leaf's key path as one readable name, such as `params/blocks/up/value`."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def _fetch(leaf: jax.Array | np.ndarray) -> np.ndarray:
  """Returns the whole leaf on the host; the device array keeps no copy of it."""
  if not isinstance(leaf, jax.Array):
    return np.asarray(leaf)
  if not leaf.is_fully_addressable:
    return multihost_utils.process_allgather(leaf, tiled=True)
  # An array keeps the host copy that is made of it, and these copies would add up to the whole model. So the copy is
  # made of a second array over the same buffers, and is freed together with that array.
  handle = jax.make_array_from_single_device_arrays(
    leaf.shape, leaf.sharding, [shard.data for shard in leaf.addressable_shards]
  )
  return np.asarray(handle)


def params_sha256(tree: Any) -> str:
  """Computes the SHA-256 of a pytree's leaves in the order of their paths.

  The digest depends on each leaf's path, dtype, shape and C-order bytes, not on its sharding. One leaf at a time is on
  the host. With several processes, all of them have to call this together.

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
