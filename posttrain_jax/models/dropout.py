"""Residual dropout: what attention and MLP add to the residual stream is dropped, more of it the deeper the layer.

LIMA (2305.11206): rates from 0 at the bottom layer to 0.3 at the last. A constant rate (InstructGPT: 0.2) has
`first == last`.

Every row has a key of its own, so that a row's mask does not depend on the other rows, on the micro-batch or on the
device it is in. What a layer recomputes in the backward pass has the same mask, since it has the same key.
"""

import dataclasses
import enum
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from posttrain_jax.parallel.sharding import constrain
from posttrain_jax.types import InputError


class SubBlock(enum.IntEnum):
  """Which of a layer's two branches; folded into its key."""

  ATTENTION = 0
  MLP = 1


# (a branch's output [B, T, D], which branch) -> what is added to the residual stream
Drop = Callable[[jax.Array, SubBlock], jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ResidualDropout:
  """Dropout of one forward pass.

  Attributes:
    keys: typed keys [B], one a row of the batch. Threefry (the default): other generators under `vmap` do not keep rows
      independent of each other.
    first: rate at the bottom layer, in [0, 1).
    last: rate at the last layer, in [0, 1); linear between. A single layer has this one.
  """

  keys: jax.Array
  first: float = dataclasses.field(metadata=dict(static=True))
  last: float = dataclasses.field(metadata=dict(static=True))

  def __post_init__(self):
    """Raises InputError on a rate that is none."""
    if not (0 <= self.first < 1 and 0 <= self.last < 1):
      raise InputError(f"dropout: rates {self.first} at the first and {self.last} at the last layer, expected [0, 1)")

  def rates(self, num_layers: int) -> np.ndarray:
    """Rate of each layer, float32 [num_layers]."""
    return np.linspace(self.last, self.first, num_layers, dtype=np.float32)[::-1]


def at_layer(dropout: ResidualDropout | None, layer_rate: tuple[jax.Array, jax.Array] | None) -> Drop:
  """What a layer does to its two branches.

  Kept elements are divided by 1 - rate (inverted dropout), so that the expectation is the branch itself.

  Args:
    dropout: keys; None for none, which adds nothing to the program.
    layer_rate: number of the layer, int32 [], and its rate, float32 []. None without dropout.
  """
  if dropout is None:
    return lambda branch, sub_block: branch
  layer, rate = layer_rate

  def drop(branch_BxTxD: jax.Array, sub_block: SubBlock) -> jax.Array:
    def kept(key):
      key = jax.random.fold_in(jax.random.fold_in(key, layer), int(sub_block))
      return jax.random.bernoulli(key, 1 - rate, branch_BxTxD.shape[1:])

    kept_BxTxD = constrain(jax.vmap(kept)(dropout.keys), "batch", "length", "hidden")
    scaled = (branch_BxTxD.astype(jnp.float32) / (1 - rate)).astype(branch_BxTxD.dtype)
    return jnp.where(kept_BxTxD, scaled, 0)

  return drop
