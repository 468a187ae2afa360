"""Drops elements of what attention and MLP add to the residual stream (residual dropout).

The rate grows linearly with depth. LIMA (2305.11206) has rates from 0 at the bottom layer to 0.3 at the last. For a
constant rate (InstructGPT: 0.2), set `first` and `last` to the same number.

Every row has its own key, so a row's mask does not depend on the other rows, on the micro-batch or on the device. What
a layer recomputes in the backward pass has the same mask, because it uses the same key.
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
  """Names a layer's two branches; the number is folded into the key."""

  ATTENTION = 0
  MLP = 1


# (a branch's output [B, T, D], the branch) -> what is added to the residual stream
Drop = Callable[[jax.Array, SubBlock], jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ResidualDropout:
  """Holds the keys and rates of dropout in one forward pass.

  Attributes:
    keys: typed keys [B], one for each row of the batch. They must be Threefry keys (the default): with other
      generators, rows under `vmap` are not independent of each other.
    first: rate at the bottom layer, in [0, 1).
    last: rate at the last layer, in [0, 1); rates are linear in between. A single layer has this rate.
  """

  keys: jax.Array
  first: float = dataclasses.field(metadata=dict(static=True))
  last: float = dataclasses.field(metadata=dict(static=True))

  def __post_init__(self):
    """Raises InputError if a rate is not in [0, 1)."""
    if not (0 <= self.first < 1 and 0 <= self.last < 1):
      raise InputError(f"dropout: rates {self.first} at the first and {self.last} at the last layer, expected [0, 1)")

  def rates(self, num_layers: int) -> np.ndarray:
    """Returns the rate of each layer, float32 [num_layers]."""
    return np.linspace(self.last, self.first, num_layers, dtype=np.float32)[::-1]


def at_layer(dropout: ResidualDropout | None, layer_rate: tuple[jax.Array, jax.Array] | None) -> Drop:
  """Returns the function that drops elements of a layer's two branches.

  Kept elements are divided by 1 - rate (inverted dropout), so that the expectation is the branch itself.

  Args:
    dropout: the keys; None for no dropout, which adds nothing to the program.
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
