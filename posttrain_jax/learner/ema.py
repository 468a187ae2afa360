"""Keeps an exponential moving average of parameters, which InstructGPT evaluates."""

from collections.abc import Callable

import jax
from flax import nnx

from posttrain_jax.compiled_once import made_once


@made_once
def make_average(decay: float, shardings: nnx.State) -> Callable[[nnx.State, nnx.State], nnx.State]:
  """Makes the program that moves an average towards new parameters.

  average ← decay · average + (1 − decay) · parameters

  InstructGPT (arXiv:2203.02155, appendix C.4): decay 0.992. The average starts at the first parameters. The bias
  towards them is not corrected.

  Args:
    decay: in [0, 1).
    shardings: those of the parameters, which the average shares.

  Returns:
    (average, parameters) to the new average; the old average is donated.
  """

  def one(average: jax.Array, new: jax.Array) -> jax.Array:
    return average + (1 - decay) * (new - average)

  return jax.jit(lambda average, params: jax.tree.map(one, average, params), donate_argnums=0, out_shardings=shardings)
