"""Makes programs whose numbers are compared round at the same places.

By default XLA may skip a rounding to bfloat16 if the number is made float32 again at once. Which roundings are skipped
depends on the rest of the program. Between two unrolled layers, a forward pass alone keeps float32; one with a backward
pass rounds, because the number is also saved. So the scorer and the update would give other logprobs for the same
parameters, and a policy that did not move would not have a ratio of 1. Programs that are compared are compiled
with these options: XLA then keeps every rounding. Nothing changes for float32, which has no such roundings.

Source: `xla_allow_excess_precision` in XLA's xla.proto.
"""

# Options for `jax.jit(..., compiler_options=AS_WRITTEN)`, on every platform.
AS_WRITTEN = {"xla_allow_excess_precision": False}
