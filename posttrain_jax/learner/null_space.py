"""Keeps updates of the MLP matrices in the null space of general data (arXiv:2512.11391).

A matrix W [in, out] maps inputs h to h·W. K = Σ hᵀh over general data; V₀ are the eigenvectors of K whose eigenvalue is
at most a threshold times the largest, and P = V₀V₀ᵀ. With W = W_ref + P·(W − W_ref) the outputs on that data move only
as far as eigenvalues below the threshold allow. Training starts at W_ref, so it is enough to multiply each update by P.

P is applied as I − U·Uᵀ with the other eigenvectors U. They are part of the optimiser's state, so a run that goes on
needs no file.

Deviation from the paper: the threshold is a share of the largest eigenvalue of K, which is symmetric, so that these are
its singular values; the authors' code has 5e-5.
"""

import dataclasses
import io
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from posttrain_jax import atomic_files
from posttrain_jax.types import InputError

_INPUT_OF = {"gate": "input", "up": "input", "down": "hidden"}  # MLP matrix to what it is multiplied with
_AXIS = {"input": "embed", "hidden": "mlp"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class NullSpaceSettings:
  """Holds an optimiser's group of fields about null spaces.

  Attributes:
    path: null_space.npz, made of the model that training starts from (`recipes.general_data`).
    mlp_alone: whether all parameters but the MLP matrices stay as they are; else they are trained without a bound.
  """

  path: str
  mlp_alone: bool


@dataclasses.dataclass(frozen=True)
class NullSpaces:
  """Holds what keeps updates in the null spaces of all layers.

  Attributes:
    moved: "input" (of `gate` and `up`) and "hidden" (of `down`) to float32 [L, in, R]: for each of L layers the
      directions that general data moves in, as orthonormal columns; columns of zeros fill up to R.
    ranks: the same names to int [L], dimensions of the null spaces: `in` less the number of columns.
  """

  moved: dict[str, np.ndarray]
  ranks: dict[str, np.ndarray]


class NullSpaceState(NamedTuple):
  """Holds the optimiser state: `NullSpaces.moved` with logical axes, so that it is sharded as matrices are."""

  moved: dict[str, nnx.Param]


def null_space(moments: np.ndarray, threshold: float) -> tuple[np.ndarray, int]:
  """Splits the space of a layer's inputs.

  Args:
    moments: float64 [in, in], K = Σ hᵀh.
    threshold: share of the largest eigenvalue up to which an eigenvalue counts as 0. Eigenvalues within the rounding
      of float64 always do.

  Returns:
    (orthonormal columns [in, R] that span what general data moves in, the dimension of the null space, in − R).
  """
  values, vectors = np.linalg.eigh(moments)
  rounding = len(moments) * np.finfo(np.float64).eps
  kept = values > max(threshold, rounding) * max(values[-1], 0.0)
  return vectors[:, kept], int((~kept).sum())


def save(path: pathlib.Path, spaces: NullSpaces) -> None:
  """Writes null spaces as one .npz file."""
  arrays = {f"moved_{name}": each for name, each in spaces.moved.items()}
  arrays |= {f"rank_{name}": each for name, each in spaces.ranks.items()}
  content = io.BytesIO()
  np.savez(content, **arrays)
  atomic_files.write_bytes(path, content.getvalue())


def load(path: str) -> NullSpaces:
  """Reads what `save` wrote.

  Raises:
    InputError: if there is no such file, or if it holds something else.
  """
  try:
    with np.load(path) as found:
      return NullSpaces(
        {name: found[f"moved_{name}"] for name in _AXIS}, {name: found[f"rank_{name}"] for name in _AXIS}
      )
  except (OSError, ValueError, KeyError) as error:
    raise InputError(f"optimizer.null_space.path: {path} cannot be read ({error}), expected null_space.npz") from None


def in_null_space(spaces: NullSpaces, *, mlp_alone: bool) -> optax.GradientTransformation:
  """Makes the last part of an optimiser, which projects its updates.

  Args:
    spaces: whose shapes the state has; `fill` gives it their values.
    mlp_alone: whether all parameters but the MLP matrices stay as they are; else they are trained without a bound.
  """
  shapes = {name: each.shape for name, each in spaces.moved.items()}

  def init(params: nnx.State) -> NullSpaceState:
    for matrix, name in _INPUT_OF.items():
      found, expected = params["blocks"]["mlp"][matrix].get_value().shape[:2], shapes[name][:2]
      if found != expected:
        raise InputError(
          f"optimizer.null_space.path: is for {expected[0]} layers with {expected[1]} inputs of mlp.{matrix}, the "
          f"model has {found[0]} with {found[1]}"
        )
    empty = {name: jnp.zeros(shape, jnp.float32) for name, shape in shapes.items()}
    return NullSpaceState({name: nnx.Param(each, logical_axes=(_AXIS[name], None)) for name, each in empty.items()})

  def update(updates: nnx.State, state: NullSpaceState, params: nnx.State | None = None):
    del params

    def one(path, leaf):
      names = jax.tree_util.keystr(path, simple=True, separator=".").split(".")
      if names[:2] != ["blocks", "mlp"]:
        return jnp.zeros_like(leaf) if mlp_alone else leaf
      return _projected(leaf, state.moved[_INPUT_OF[names[2]]].get_value())

    return jax.tree_util.tree_map_with_path(one, updates), state

  return optax.GradientTransformation(init, update)


def _projected(change_LxIxO: jax.Array, moved_LxIxR: jax.Array) -> jax.Array:
  """Takes from each layer's change what lies in the directions that move general data."""
  with jax.default_matmul_precision("highest"):
    along = jnp.einsum("lir,lio->lro", moved_LxIxR, change_LxIxO)
    return change_LxIxO - jnp.einsum("lir,lro->lio", moved_LxIxR, along)


def fill(opt_state: optax.OptState, spaces: NullSpaces) -> optax.OptState:
  """Puts the directions into a new optimiser state that `in_null_space` made."""

  def one(part):
    if not isinstance(part, NullSpaceState):
      return part
    placed = {
      name: each.replace(jax.device_put(spaces.moved[name], each.get_value().sharding))
      for name, each in part.moved.items()
    }
    return NullSpaceState(placed)

  return jax.tree.map(one, opt_state, is_leaf=lambda part: isinstance(part, NullSpaceState))
