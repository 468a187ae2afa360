"""From token losses to one number: what is averaged over what is a choice of algorithm, not a detail.

A row (or prompt) without a counted token is not a row (or prompt): it adds nothing, above or below the line.

`denominator` is what the whole optimiser update divides by: its tokens, rows or prompts. Given it, micro-batches and
data shards return their part of the update's loss, and the parts add up to the same number however the update is cut.
Left out, it is counted in the arrays at hand. A denominator of 0 gives loss 0.
"""

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking


def token_mean(x: chex.Array, mask: chex.Array, *, denominator: chex.Numeric | None = None) -> jax.Array:
  """Sum over all counted tokens / number of counted tokens: every token weighs the same.

  Σ_{b,t} m x / Σ_{b,t} m.  What DAPO's published script does (`loss_agg_mode=token-mean`).

  Args:
    x: [B, T] token losses; B stands for any leading axes.
    mask: [B, T], bool or float, not 0 on counted tokens.
    denominator: counted tokens of the whole update.

  Returns:
    A scalar in at least float32.
  """
  mask, x = masking.counted(mask, x)
  return masking.divide_or_zero(jnp.sum(x), _count(mask) if denominator is None else denominator)


def prompt_mean(
  x: chex.Array,
  mask: chex.Array,
  *,
  denominator: chex.Numeric | None = None,
  prompt_tokens: chex.Array | None = None,
) -> jax.Array:
  """Mean over prompts of the token mean over each prompt's answers: every prompt weighs the same.

  mean_p (Σ_{g,t} m x / Σ_{g,t} m).  DAPO's objective as printed (arXiv:2503.14476, eq. 8).

  Args:
    x: [P, G, T] token losses.
    mask: [P, G, T], bool or float, not 0 on counted tokens.
    denominator: prompts of the whole update that have a counted token.
    prompt_tokens: [P], counted tokens of each prompt's answers here and elsewhere, where they are spread over rows or
      micro-batches; then `denominator` has to be given. None: all are here.

  Raises:
    ValueError: `prompt_tokens` without `denominator`.

  Returns:
    A scalar in at least float32.
  """
  chex.assert_rank(x, 3)
  if prompt_tokens is not None:
    chex.assert_shape(prompt_tokens, (jnp.shape(x)[0],))
    if denominator is None:
      raise ValueError("denominator: missing; prompts whose answers are spread cannot be counted here")
  mask, x = masking.counted(mask, x)
  tokens = _count(mask, axis=(1, 2)) if prompt_tokens is None else prompt_tokens
  means = masking.divide_or_zero(jnp.sum(x, axis=(1, 2)), tokens)
  prompts = _count(mask.any(axis=(1, 2))) if denominator is None else denominator
  return masking.divide_or_zero(jnp.sum(means), prompts)


def sequence_mean(x: chex.Array, mask: chex.Array, *, denominator: chex.Numeric | None = None) -> jax.Array:
  """Mean over rows of each row's token mean: every answer weighs the same, so tokens of long answers weigh less.

  mean_b (Σ_t m x / Σ_t m).  GRPO (arXiv:2402.03300, eq. 3).

  Args:
    x: [B, T] token losses; B stands for any leading axes.
    mask: [B, T], bool or float, not 0 on counted tokens.
    denominator: rows of the whole update that have a counted token.

  Returns:
    A scalar in at least float32.
  """
  mask, x = masking.counted(mask, x)
  means = masking.divide_or_zero(jnp.sum(x, axis=-1), _count(mask, axis=-1))
  return masking.divide_or_zero(jnp.sum(means), _rows(mask) if denominator is None else denominator)


def sequence_sum(x: chex.Array, mask: chex.Array, *, denominator: chex.Numeric | None = None) -> jax.Array:
  """Mean over rows of each row's token sum: the log-likelihood of whole answers, as in REINFORCE.

  mean_b Σ_t m x.

  Args:
    x: [B, T] token losses; B stands for any leading axes.
    mask: [B, T], bool or float, not 0 on counted tokens.
    denominator: rows of the whole update that have a counted token.

  Returns:
    A scalar in at least float32.
  """
  mask, x = masking.counted(mask, x)
  return masking.divide_or_zero(jnp.sum(x), _rows(mask) if denominator is None else denominator)


def fixed_length(
  x: chex.Array, mask: chex.Array, *, max_length: chex.Numeric, denominator: chex.Numeric | None = None
) -> jax.Array:
  """Mean over rows of each row's token sum over a constant: no weight depends on how long an answer is.

  Σ_{b,t} m x / (rows · max_length).  Dr. GRPO (arXiv:2503.20783, listing 1), with the cap on new tokens as the
  constant.

  Args:
    x: [B, T] token losses; B stands for any leading axes.
    mask: [B, T], bool or float, not 0 on counted tokens.
    max_length: the constant, in tokens; not T, which depends on how the batch was padded.
    denominator: rows (not rows · max_length) of the whole update that have a counted token.

  Returns:
    A scalar in at least float32.
  """
  return sequence_sum(x, mask, denominator=denominator) / max_length


def _count(mask: jax.Array, axis=None) -> jax.Array:
  return jnp.sum(mask, axis=axis, dtype=jnp.int32)


def _rows(mask: jax.Array) -> jax.Array:
  return _count(mask.any(axis=-1))
