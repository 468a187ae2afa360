"""Makes the arrays that the tests of policy losses share."""

import numpy as np


def example(shape=(4, 6), seed=0, spread=0.5):
  """Makes logprobs, old logprobs, advantages, and a mask with holes, an empty row and a full row."""
  rng = np.random.default_rng(seed)
  old = -rng.exponential(size=shape).astype(np.float32)
  learner = old + spread * rng.normal(size=shape).astype(np.float32)
  advantages = rng.normal(size=shape).astype(np.float32)
  mask = rng.random(shape) < 0.7
  mask[0], mask[1] = False, True
  return learner, old, advantages, mask
