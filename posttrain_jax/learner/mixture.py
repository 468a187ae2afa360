"""Mixes a policy's loss with the likelihood of text that it must not forget (PPO-ptx)."""

import dataclasses
from collections.abc import Callable

from flax import nnx

from posttrain_jax.compiled_once import made_once
from posttrain_jax.learner.data_batches import SupervisedRows
from posttrain_jax.learner.update import Batch, Divisors, LossFunction, LossOutput


@dataclasses.dataclass(frozen=True)
class Text:
  """Describes the text that a policy learns in every update.

  Attributes:
    coefficient: γ, weight of the text's negative log-likelihood, mean over its learned tokens.
    batch: from the number of updates so far to the next update's `data.supervised.SupervisedBatch`. Its rows divide
      over micro-batches and mesh.
    micro_batches: parts in which the text's gradient is computed.
  """

  coefficient: float
  batch: Callable[[int], SupervisedRows]
  micro_batches: int


@made_once
def weighted(loss: LossFunction[Batch, Divisors], coefficient: float, *, name: str) -> LossFunction[Batch, Divisors]:
  """Makes the loss coefficient · loss, to be added to another one in an update.

  PPO-ptx, "Training language models to follow instructions with human feedback" (arXiv:2203.02155), eq. 2: the
  objective is E[PPO] + γ E[log π(x)] over pretraining text x. Gradients are accumulated as in any other update.

  Args:
    loss: the loss.
    coefficient: γ.
    name: its metrics get the prefix `name/`. The metric `name/loss` is the loss without the coefficient.
  """

  def loss_function(params: nnx.State, batch: Batch, totals: Divisors) -> LossOutput:
    found = loss(params, batch, totals)
    return LossOutput(
      loss=coefficient * found.loss,
      sums={f"{name}/loss": found.loss} | {f"{name}/{metric}": value for metric, value in found.sums.items()},
      maxima={f"{name}/{metric}": value for metric, value in found.maxima.items()},
    )

  return loss_function
