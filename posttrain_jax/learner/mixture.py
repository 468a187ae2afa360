"""Two losses in one update: a policy's on its own answers, and likelihood of text that it must not forget (PPO-ptx)."""

import dataclasses
from collections.abc import Callable
from typing import Any

from flax import nnx

from posttrain_jax.learner.update import LossFunction, LossOutput


@dataclasses.dataclass(frozen=True)
class Text:
  """Text that a policy learns in every update.

  Attributes:
    coefficient: γ of its negative log-likelihood, mean over its learned tokens.
    batch: the `data.supervised.SupervisedBatch` of an update, from the number of updates before it. Its rows divide
      over micro-batches and mesh.
  """

  coefficient: float
  batch: Callable[[int], Any]


def mix(first: LossFunction, second: LossFunction, *, coefficient: float, name: str) -> LossFunction:
  """The loss first + coefficient · second of a pair of batches with a pair of totals.

  PPO-ptx, "Training language models to follow instructions with human feedback" (2203.02155), eq. 2: the objective is
  E[PPO] + γ E[log π(x)] over pretraining text x. Gradients are accumulated as in any other update.

  Args:
    first: whose metrics keep their names.
    second: whose metrics get `name/` before theirs; its loss is the metric `name/loss`, without the coefficient.
    coefficient: γ.
    name: of the second loss.
  """

  def loss_function(params: nnx.State, batch: tuple[Any, Any], totals: tuple[Any, Any]) -> LossOutput:
    own, other = first(params, batch[0], totals[0]), second(params, batch[1], totals[1])
    return LossOutput(
      loss=own.loss + coefficient * other.loss,
      sums=own.sums
      | {f"{name}/loss": other.loss}
      | {f"{name}/{metric}": value for metric, value in other.sums.items()},
      maxima=own.maxima | {f"{name}/{metric}": value for metric, value in other.maxima.items()},
    )

  return loss_function
