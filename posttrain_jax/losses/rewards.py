"""What is added to a verifier's score, and how a score becomes a reward per token. Constants for the gradient."""

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking


def soft_overlong_penalty(lengths: chex.Array, *, max_length: int, buffer: int) -> jax.Array:
  """DAPO's soft overlong penalty: 0 for short answers, falling to −1 for answers at the cap.

  penalty = −clip((length − (max_length − buffer)) / buffer, 0, 1)

  "DAPO" (arXiv:2503.14476), eq. 13. It is added to the reward; dynamic sampling looks at the accuracy without it.

  Args:
    lengths: integers of any shape, every generated token of an answer, EOS included.
    max_length: the engine's cap on new tokens.
    buffer: how many tokens before the cap the ramp begins, 0 to max_length. 0 is a step: −1 at the cap, 0 before it.

  Returns:
    Penalties in [−1, 0] of the same shape, in at least float32.

  Raises:
    ValueError: buffer is not in [0, max_length].
  """
  if not 0 <= buffer <= max_length:
    raise ValueError(f"buffer: expected 0 to max_length = {max_length} tokens, found {buffer}")
  lengths = jnp.asarray(lengths)
  dtype = masking.at_least_float32(lengths)
  if buffer == 0:
    return -(lengths >= max_length).astype(dtype)
  # The difference is taken in integers, where it is exact at any length.
  over = jnp.clip(lengths - (max_length - buffer), 0, buffer)
  return -over.astype(dtype) / buffer


def token_rewards(
  score: chex.Array, mask: chex.Array, *, kl: chex.Array | None = None, kl_coefficient: chex.Numeric = 0.0
) -> jax.Array:
  """Puts an answer's score on its last counted token and charges the KL on every counted token.

  r_t = −kl_coefficient · kl_t + [t is the last counted token] · score

  "Training language models to follow instructions with human feedback" (arXiv:2203.02155), eq. 2, charged token by
  token as in arXiv:1909.08593.

  Args:
    score: [B], one per answer; B stands for any leading axes.
    mask: [B, T], bool or float, not 0 on counted tokens; it may have holes, and an answer with no counted token gets
      zeros.
    kl: [B, T] per-token estimates such as `losses.kl.kl_estimate(old, reference, estimator="k1")`; None: nothing
      charged.
    kl_coefficient: β, what one nat costs.

  Returns:
    [B, T] rewards in at least float32, 0 where the mask is 0.
  """
  chex.assert_shape(score, jnp.shape(mask)[:-1])
  spread_score = jnp.broadcast_to(jnp.asarray(score)[..., None], jnp.shape(mask))
  mask, spread_score, kl = masking.counted(mask, spread_score, jnp.zeros_like(spread_score) if kl is None else kl)
  counted_from_here = jax.lax.cumsum(mask.astype(jnp.int32), axis=mask.ndim - 1, reverse=True)
  last = mask & (counted_from_here == 1)
  return jax.lax.stop_gradient(jnp.where(last, spread_score, 0) - kl_coefficient * kl)
