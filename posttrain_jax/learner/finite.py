"""Finds arrays that hold NaN or infinity, before they are saved or used."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posttrain_jax.learner.digest import leaf_name


def not_finite(tree: Any) -> str | None:
  """Returns the name of the first array that holds NaN or infinity, or None.

  The optimiser's state is left out: it may be kept in memory that no program computes on. An update that would make a
  parameter not finite is left out, so a finite model has an optimiser state that can go on.

  Args:
    tree: a pytree of arrays; several processes call this together.
  """
  named = [
    (leaf_name(path), leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    if jnp.issubdtype(leaf.dtype, jnp.inexact)
  ]
  named = [(name, leaf) for name, leaf in named if not name.startswith("opt_state")]
  found = _are_finite([leaf for _, leaf in named])
  return next((name for (name, _), finite in zip(named, found) if not np.asarray(finite)), None)


@jax.jit
def _are_finite(leaves: list[jax.Array]) -> list[jax.Array]:
  return [jnp.isfinite(leaf).all() for leaf in leaves]
