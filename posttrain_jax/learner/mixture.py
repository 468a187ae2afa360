"""Mixes a policy's loss with the likelihood of text that it must not forget (PPO-ptx)."""

import dataclasses
from collections.abc import Callable
from typing import TypeVar

from flax import nnx

from posttrain_jax.compiled_once import made_once
from posttrain_jax.learner.data_batches import SupervisedRows
from posttrain_jax.learner.update import Batch, Divisors, LossFunction, LossOutput

OtherBatch = TypeVar("OtherBatch")
OtherDivisors = TypeVar("OtherDivisors")


@dataclasses.dataclass(frozen=True)
class Text:
  """Describes the text that a policy learns in every update.

  Attributes:
    coefficient: γ, weight of the text's negative log-likelihood, mean over its learned tokens.
    batch: from the number of updates so far to the next update's `data.supervised.SupervisedBatch`. Its rows divide
      over micro-batches and mesh.
  """

  coefficient: float
  batch: Callable[[int], SupervisedRows]


@made_once
def mix(
  first: LossFunction[Batch, Divisors],
  second: LossFunction[OtherBatch, OtherDivisors],
  *,
  coefficient: float,
  name: str,
) -> LossFunction[tuple[Batch, OtherBatch], tuple[Divisors, OtherDivisors]]:
  """Makes the loss first + coefficient · second.

  Its batch is a pair of batches, and its totals are a pair of totals.

  PPO-ptx, "Training language models to follow instructions with human feedback" (arXiv:2203.02155), eq. 2: the
  objective is E[PPO] + γ E[log π(x)] over pretraining text x. Gradients are accumulated as in any other update.

  Args:
    first: the first loss; its metrics keep their names.
    second: the second loss; its metrics get the prefix `name/`. The metric `name/loss` is this loss without the
      coefficient.
    coefficient: γ.
    name: of the second loss.
  """

  def loss_function(
    params: nnx.State, batch: tuple[Batch, OtherBatch], totals: tuple[Divisors, OtherDivisors]
  ) -> LossOutput:
    own, other = first(params, batch[0], totals[0]), second(params, batch[1], totals[1])
    return LossOutput(
      loss=own.loss + coefficient * other.loss,
      sums=own.sums
      | {f"{name}/loss": other.loss}
      | {f"{name}/{metric}": value for metric, value in other.sums.items()},
      maxima=own.maxima | {f"{name}/{metric}": value for metric, value in other.maxima.items()},
    )

  return loss_function
