from fractions import Fraction

import jax
import numpy as np

from posttrain_jax.losses.two_sum import two_sum


def test_nothing_is_lost():
  rng = np.random.default_rng(0)
  a, b = (rng.normal(size=(2, 200)) * 2.0 ** rng.integers(-30, 30, (2, 200))).astype(np.float32)
  for function in (two_sum, jax.jit(two_sum)):
    total, lost = (np.asarray(x) for x in function(a, b))
    np.testing.assert_array_equal(total, a + b)
    assert all(Fraction(*(float(x).as_integer_ratio())) + Fraction(*(float(y).as_integer_ratio()))
               == Fraction(*(float(s).as_integer_ratio())) + Fraction(*(float(e).as_integer_ratio()))
               for x, y, s, e in zip(a, b, total, lost))  # fmt: skip
    assert np.any(lost != 0)
