"""Computes the loss of PPO's value model.

The model predicts before each token of an answer what the answer will still earn. It is a transformer with a
scalar head, read at every position: V before token t is the score of the hidden state that has seen the prompt and the
answer's tokens before t. It has its own parameters, also if it started from the policy's.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from posttrain_jax import losses
from posttrain_jax.compiled_once import made_once
from posttrain_jax.learner.packed_rows import Packed, PackedRows
from posttrain_jax.learner.packing import Packing
from posttrain_jax.learner.update import LossFunction, LossOutput
from posttrain_jax.models import heads
from posttrain_jax.models.forward import packed_hidden
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class ValueObjective:
  """Describes what the value model minimises.

  coefficient · mean over tokens of the clipped loss (`losses.value`)

  Attributes:
    clip: how far a value may move away from its value when the step began, in units of the reward; 0 for no bound.
    coefficient: on the loss. The value model has its own optimiser, so this matters to gradient clipping only.
  """

  clip: float
  coefficient: float

  def __post_init__(self):
    """Checks the numbers.

    Raises:
      InputError: if they would train nothing.
    """
    if self.clip < 0 or self.coefficient <= 0:
      raise InputError(
        f"value.objective: clip {self.clip}, coefficient {self.coefficient}, expected clip >= 0 and coefficient > 0"
      )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ValueBatch:
  """Holds answers with their old values and returns, padded, on the host.

  Attributes:
    prompts: int32 [P, Tp], padded on the right.
    prompt_lengths: int32 [P].
    answers: int32 [P, G, Tc], padded on the right.
    mask: bool [P, G, Tc], True on tokens that count.
    old_values: float32 [P, G, Tc], the value model's when the step began.
    returns: float32 [P, G, Tc].
  """

  prompts: jax.Array
  prompt_lengths: jax.Array
  answers: jax.Array
  mask: jax.Array
  old_values: jax.Array
  returns: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PackedValues:
  """Holds the same in packed rows: arrays [M, R, N], or [R, N] in one micro-batch.

  Attributes:
    rows: what the model reads.
    mask: bool.
    old_values: float32.
    returns: float32.
  """

  rows: PackedRows
  mask: jax.Array
  old_values: jax.Array
  returns: jax.Array


def pack_values(batch: ValueBatch, packing: Packing) -> Packed[PackedValues, jax.Array]:
  """Packs the host arrays of an update; its total is the number of counted tokens."""
  mask, old_values, returns = (packing.pack(x) for x in (batch.mask, batch.old_values, batch.returns))
  parts = PackedValues(packing.rows, mask, old_values, returns)
  return Packed(parts, count=np.int32(packing.count), totals=np.int32(batch.mask.sum()))


def packed_values(graph: nnx.GraphDef, params: nnx.State, rows: PackedRows) -> jax.Array:
  """Returns the values before the tokens that packed rows predict.

  float32 [R, N]; arbitrary where no token is predicted.

  Args:
    graph: graph of a stacked transformer with a scalar head.
    params: its parameters.
    rows: of one micro-batch.
  """
  model = nnx.merge(graph, params)
  return heads.token_scores(model, packed_hidden(model, rows.tokens, rows.positions, rows.spans))


@made_once
def make_loss(graph: nnx.GraphDef, objective: ValueObjective) -> LossFunction[PackedValues, jax.Array]:
  """Makes the loss of one micro-batch, divided by the counted tokens of the whole update.

  Args:
    graph: graph of a stacked transformer with a scalar head.
    objective: what to minimise.
  """

  def loss_function(params: nnx.State, batch: PackedValues, total: jax.Array) -> LossOutput:
    mean = functools.partial(losses.aggregate.token_mean, mask=batch.mask, denominator=total)
    values = packed_values(graph, params, batch.rows)
    clip = objective.clip or jnp.inf
    loss = mean(losses.value.clipped_value_loss(values, batch.old_values, batch.returns, batch.mask, clip=clip))
    moved = jnp.abs(jnp.where(batch.mask, values - batch.old_values, 0))
    return LossOutput(
      loss=objective.coefficient * loss,
      sums={"clipped": mean((moved > clip).astype(jnp.float32)), "unscaled_loss": loss},
      maxima={"moved_max": moved.max()},
    )

  return loss_function
