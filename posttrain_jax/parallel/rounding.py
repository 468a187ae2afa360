"""Makes two programs round the same numbers at the same places.

By default XLA may skip a rounding to bfloat16 and keep the float32 number where both are in one fusion. What is fused
depends on the rest of the program: a forward pass alone is fused otherwise than one with a backward pass. So the same
parameters would give other logprobs in the scorer than in the update, and a ratio of policies that did not move would
not be 1. Programs of which numbers are compared are compiled with these options. float32 is not affected.
"""

AS_WRITTEN = {"xla_allow_excess_precision": False}
