"""Masks arrays so that masked entries change neither values nor gradients.

A masked entry may hold anything: the logprob of a padding id, or the NaN of a verifier that failed. Multiplying by 0
does not remove it (0 · NaN = NaN). A `where` on the result alone still sends NaN into the gradient, as 0 · inf. So
every loss replaces masked inputs by 0 before it computes, and masked outputs by 0 afterwards.
"""

import chex
import jax
import jax.numpy as jnp


def at_least_float32(*arrays: chex.ArrayTree) -> jnp.dtype:
  """Returns the dtype to compute in: the inputs' common dtype, at least float32.

  For bfloat16, float16, integers and bool it is float32.
  """
  return jnp.result_type(*arrays, jnp.float32)


def counted(mask: chex.Array, *arrays: chex.Array) -> tuple[jax.Array, ...]:
  """Makes the mask bool and sets the arrays' masked entries to 0.

  Args:
    mask: bool or float, any shape; not 0 on counted entries.
    *arrays: arrays of the mask's shape. Their masked entries may hold anything, NaN and infinities included, and get a
      gradient of exactly 0.

  Returns:
    The bool mask, followed by the arrays in their common dtype, at least float32.
  """
  chex.assert_equal_shape([mask, *arrays])
  mask = jnp.asarray(mask).astype(bool)
  dtype = at_least_float32(*arrays)
  return mask, *(jnp.where(mask, jnp.asarray(x).astype(dtype), 0) for x in arrays)


def divide_or_zero(numerator: chex.Array, denominator: chex.Numeric) -> jax.Array:
  """Divides; the quotient by 0 is 0, and so is its gradient.

  Args:
    numerator: float array.
    denominator: a number or an array that broadcasts with the numerator.

  Returns:
    The quotient, in the numerator's dtype.
  """
  denominator = jnp.asarray(denominator)
  nonzero = denominator != 0
  return jnp.where(nonzero, numerator / jnp.where(nonzero, denominator, 1).astype(numerator.dtype), 0)
