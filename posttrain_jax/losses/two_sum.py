"""Adds two floats without losing what rounding takes from their sum.

A sum of n equal float32 numbers, one after the other, may be off by n · 6e-8 of its value. XLA adds up most arrays as a
tree, which is right to about 1e-7. A scan over time and a reduction of several operands at once are added one after the
other, at least on CPU. They keep the lost parts, and add them at the end.
"""

import jax


def two_sum(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns a + b, rounded, and the exact difference between a + b and that.

  The difference is itself a float: Knuth, "The Art of Computer Programming", volume 2, section 4.2.2, theorem B.

  Args:
    a: float, any shape.
    b: float of the same shape and dtype.
  """
  total = a + b
  of_b = total - a
  return total, (a - (total - of_b)) + (b - of_b)
