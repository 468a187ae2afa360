"""Turns the losses of tokens into one number, by a weight for each token.

Every aggregate is a weighted sum over the counted tokens, and an algorithm chooses the weights:

                   weight of a token
  token_mean       1 / tokens
  prompt_mean      1 / (prompts · tokens of the prompt's answers)
  sequence_mean    1 / (rows · tokens of the row)
  sequence_sum     1 / rows
  fixed_length     1 / (rows · max_length)

`tokens` counts the tokens whose mask is not 0. `rows` and `prompts` count those with at least one such token, so an
empty row changes nothing. The weights do not depend on the losses: they are constants for the gradient.

`denominator` replaces the first count of a formula (tokens, prompts or rows) by that of the whole optimiser update.
Then micro-batches and data shards return their part of the update's loss, and the parts add up to the same number
however the update is cut. Without it, the count is that of the arrays given. A denominator of 0 gives weights of 0.
"""

import enum

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking


class Aggregation(enum.StrEnum):
  """Names the aggregates; the function of each has the same name."""

  TOKEN_MEAN = "token_mean"
  PROMPT_MEAN = "prompt_mean"
  SEQUENCE_MEAN = "sequence_mean"
  SEQUENCE_SUM = "sequence_sum"
  FIXED_LENGTH = "fixed_length"


def token_weights(
  mask: chex.Array,
  aggregation: Aggregation,
  *,
  denominator: chex.Numeric | None = None,
  row_tokens: chex.Array | None = None,
  prompt_tokens: chex.Array | None = None,
  max_length: chex.Numeric | None = None,
  dtype: jnp.dtype = jnp.float32,
) -> jax.Array:
  """Computes the weight of each token in an aggregate.

  The aggregate of x is Σ weights · x.

  Args:
    mask: [B, T], bool or float, not 0 on counted tokens; B stands for any leading axes. [P, G, T] for PROMPT_MEAN.
    aggregation: which aggregate.
    denominator: count of the whole update. TOKEN_MEAN: its tokens. PROMPT_MEAN: its prompts with a counted token. The
      others: its rows with a counted token. None: counted in `mask`.
    row_tokens: [B], for SEQUENCE_MEAN: counted tokens of the answer that each row has a part of, if answers are cut
      into rows. Packed tokens are such rows, of one token each. It needs `denominator`. None: rows are whole answers.
    prompt_tokens: [B], for PROMPT_MEAN: counted tokens of all answers to each row's prompt, if these are spread over
      several prompts' rows or micro-batches; needs `denominator`. None: all answers of a prompt are in `mask`.
    max_length: for FIXED_LENGTH: its constant, in tokens.
    dtype: of the weights, at least float32.

  Returns:
    [B, T] weights, 0 where the mask is 0.

  Raises:
    ValueError: if FIXED_LENGTH has no `max_length`, or `row_tokens` or `prompt_tokens` come without `denominator`.
  """
  if denominator is None and not (row_tokens is None and prompt_tokens is None):
    raise ValueError("denominator: missing; it cannot be counted from answers or prompts that are spread over rows")
  mask = jnp.asarray(mask).astype(bool)
  one = jnp.ones((), dtype)
  match Aggregation(aggregation):
    case Aggregation.TOKEN_MEAN:
      weights = masking.divide_or_zero(one, _count(mask) if denominator is None else denominator)
    case Aggregation.PROMPT_MEAN:
      weights = _prompt_weights(mask, one, denominator, prompt_tokens)
    case Aggregation.SEQUENCE_MEAN:
      row_tokens = _count(mask, axis=-1) if row_tokens is None else row_tokens
      chex.assert_shape(row_tokens, mask.shape[:-1])
      weights = masking.divide_or_zero(_share_of_row(mask, one, denominator), row_tokens[..., None])
    case Aggregation.SEQUENCE_SUM:
      weights = _share_of_row(mask, one, denominator)
    case Aggregation.FIXED_LENGTH:
      if max_length is None:
        raise ValueError("max_length: missing; fixed_length divides by it")
      weights = _share_of_row(mask, one / max_length, denominator)
  return jnp.where(mask, weights, 0)


def total(weighted: chex.Array) -> jax.Array:
  """Adds up weighted losses of tokens, in at least float32."""
  return jnp.sum(weighted, dtype=masking.at_least_float32(weighted))


def token_mean(x: chex.Array, mask: chex.Array, *, denominator: chex.Numeric | None = None) -> jax.Array:
  """Divides the sum over all counted tokens by their number: every token weighs the same.

  Σ_{b,t} m x / Σ_{b,t} m.  DAPO's published script (`loss_agg_mode=token-mean`).

  Args:
    x: [B, T] token losses; B stands for any leading axes.
    mask: [B, T], bool or float, not 0 on counted tokens.
    denominator: counted tokens of the whole update.

  Returns:
    A scalar in at least float32.
  """
  # Divided once, after the sum, and not token by token: so the mean of ones is 1.
  mask, x = masking.counted(mask, x)
  return masking.divide_or_zero(total(x), _count(mask) if denominator is None else denominator)


def prompt_mean(
  x: chex.Array,
  mask: chex.Array,
  *,
  denominator: chex.Numeric | None = None,
  prompt_tokens: chex.Array | None = None,
) -> jax.Array:
  """Averages over prompts the token mean of each prompt's answers: every prompt weighs the same.

  mean_p (Σ_{g,t} m x / Σ_{g,t} m).  DAPO's objective as printed (arXiv:2503.14476, eq. 8).

  Args:
    x: [P, G, T] token losses.
    mask: [P, G, T], bool or float, not 0 on counted tokens.
    denominator: prompts of the whole update that have a counted token.
    prompt_tokens: [P, G], counted tokens of all answers to each row's prompt, if these are spread over several prompts'
      rows or micro-batches. Then `denominator` has to be given. None: all answers of a prompt are in `x`.

  Returns:
    A scalar in at least float32.

  Raises:
    ValueError: if `prompt_tokens` come without `denominator`.
  """
  return _aggregate(x, mask, Aggregation.PROMPT_MEAN, denominator=denominator, prompt_tokens=prompt_tokens)


def sequence_mean(x: chex.Array, mask: chex.Array, *, denominator: chex.Numeric | None = None) -> jax.Array:
  """Averages over rows each row's token mean: every answer weighs the same.

  mean_b (Σ_t m x / Σ_t m).  GRPO (arXiv:2402.03300, eq. 3).  A token of a long answer weighs less than one of a short
  answer.

  Args:
    x: [B, T] token losses; B stands for any leading axes.
    mask: [B, T], bool or float, not 0 on counted tokens.
    denominator: rows of the whole update that have a counted token.

  Returns:
    A scalar in at least float32.
  """
  return _aggregate(x, mask, Aggregation.SEQUENCE_MEAN, denominator=denominator)


def sequence_sum(x: chex.Array, mask: chex.Array, *, denominator: chex.Numeric | None = None) -> jax.Array:
  """Averages over rows each row's token sum, as REINFORCE does with an answer's log-likelihood.

  mean_b Σ_t m x.

  Args:
    x: [B, T] token losses; B stands for any leading axes.
    mask: [B, T], bool or float, not 0 on counted tokens.
    denominator: rows of the whole update that have a counted token.

  Returns:
    A scalar in at least float32.
  """
  return _aggregate(x, mask, Aggregation.SEQUENCE_SUM, denominator=denominator)


def fixed_length(
  x: chex.Array, mask: chex.Array, *, max_length: chex.Numeric, denominator: chex.Numeric | None = None
) -> jax.Array:
  """Averages over rows each row's token sum divided by a constant.

  No weight depends on an answer's length.

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
  return _aggregate(x, mask, Aggregation.FIXED_LENGTH, denominator=denominator, max_length=max_length)


def _aggregate(x: chex.Array, mask: chex.Array, aggregation: Aggregation, **counts: chex.Numeric | None) -> jax.Array:
  mask, x = masking.counted(mask, x)
  return total(token_weights(mask, aggregation, dtype=x.dtype, **counts) * x)


def _prompt_weights(
  mask: jax.Array, one: jax.Array, denominator: chex.Numeric | None, prompt_tokens: chex.Array | None
) -> jax.Array:
  chex.assert_rank(mask, 3)
  if prompt_tokens is None:
    prompt_tokens = jnp.broadcast_to(_count(mask, axis=(1, 2))[:, None], mask.shape[:2])
  chex.assert_shape(prompt_tokens, mask.shape[:2])
  share = masking.divide_or_zero(one, _count(mask.any(axis=(1, 2))) if denominator is None else denominator)
  return masking.divide_or_zero(share, prompt_tokens)[..., None]


def _share_of_row(mask: jax.Array, numerator: jax.Array, denominator: chex.Numeric | None) -> jax.Array:
  """Divides `numerator` by the number of rows that have a counted token."""
  return masking.divide_or_zero(numerator, _count(mask.any(axis=-1)) if denominator is None else denominator)


def _count(mask: jax.Array, axis=None) -> jax.Array:
  return jnp.sum(mask, axis=axis, dtype=jnp.int32)
