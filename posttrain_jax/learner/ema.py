"""An exponential moving average of parameters: steadier than the last ones, and what InstructGPT evaluates."""

from collections.abc import Callable

import jax
from flax import nnx


def make_average(decay: float, shardings: nnx.State) -> Callable[[nnx.State, nnx.State], nnx.State]:
  """Returns the program that takes parameters into their average: average ← decay · average + (1 − decay) · parameters.

  InstructGPT (2203.02155, appendix C.4): decay 0.992. It starts as the policy as it came, without a correction of the
  bias towards it.

  Args:
    decay: in [0, 1).
    shardings: those of the parameters, which the average shares.

  Returns:
    (average, which is donated; parameters) -> the new average.
  """

  def one(average: jax.Array, new: jax.Array) -> jax.Array:
    return average + (1 - decay) * (new - average)

  return jax.jit(lambda average, params: jax.tree.map(one, average, params), donate_argnums=0, out_shardings=shardings)
