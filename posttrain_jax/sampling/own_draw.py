"""Draws a token for each row by the row's own temperature and truncation.

Whatever rows stand next to each other, each gets the bits that it gets alone: a step that only some rows need is left
out where no row needs it, and changes nothing for the others where one does.

Truncation needs the smallest logit that is kept, not a sorted vocabulary. It is found among the 256 most likely tokens.
If a row keeps more, it is found by halving the interval of float32 numbers, which are ordered as their bits are.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from posttrain_jax.sampling.draw import in_blocks, pick, take_at
from posttrain_jax.sampling.own_sampling import RowSampling

_FIRST = 256  # most likely tokens that are looked at first
_INFINITY = 0x7F800000  # bits of float32's


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TopTokens:
  """Holds the K most likely tokens of each row, the most likely one first.

  Attributes:
    tokens: int32 [..., S, K].
    logprobs: float32 [..., S, K], untruncated, at the temperature.
  """

  tokens: jax.Array
  logprobs: jax.Array


def draw_rows(
  logits: jax.Array, uniforms: jax.Array, sampling: RowSampling, active: jax.Array, top: int
) -> tuple[jax.Array, jax.Array, jax.Array, TopTokens | None]:
  """Draws one token a row, as `draw.draw` does with the row's settings.

  Args:
    logits: float32 [S, V], as in `draw.draw`.
    uniforms: float32 [S, 2] in [0, 1), random numbers of each row.
    sampling: of each row.
    active: bool [S], rows that count; what the others get has no meaning.
    top: K, alternatives of each row; 0 for none.

  Returns:
    tokens, sampler_logprobs and drawn_logprobs [S], as in `draw.draw`; and the alternatives, zeros if no active row
    asks for them, None if K is 0.
  """
  logits_VxS = logits.T
  largest = logits_VxS.max(0)
  greedy = sampling.temperature == 0
  temperature = jnp.where(greedy, 1.0, sampling.temperature)
  truncated = ~greedy & ((sampling.top_k > 0) | (sampling.top_p < 1) | (sampling.floor > -jnp.inf))

  def scale(x):  # as in `draw.draw`
    rows = (1,) * (x.ndim - 1) + (-1,)
    return (x - largest.reshape(rows)) / temperature.reshape(rows)

  blocks = in_blocks(logits_VxS)
  smallest, whole = jax.lax.cond(
    jnp.any(active & truncated),
    lambda: (
      jnp.where(truncated, _smallest(scale(logits_VxS), scale(blocks), sampling, active & truncated), -jnp.inf),
      jnp.exp(scale(blocks)).sum(1).sum(0),
    ),
    lambda: (jnp.full_like(largest, -jnp.inf), jnp.zeros_like(largest)),
  )

  def weigh(x):
    scaled = scale(x)
    return jnp.where(scaled >= smallest.reshape((1,) * (x.ndim - 1) + (-1,)), jnp.exp(scaled), 0.0)

  totals = weigh(blocks).sum(1)
  block = pick(totals, uniforms[:, 0])
  within = pick(weigh(take_at(blocks, block)), uniforms[:, 1])
  tokens = (block * blocks.shape[1] + within).astype(jnp.int32)
  tokens = jax.lax.cond(
    jnp.any(active & greedy), lambda: jnp.where(greedy, _most_likely(blocks), tokens), lambda: tokens
  )

  chosen, kept = scale(take_at(logits_VxS, tokens)), totals.sum(0)
  whole = jnp.where(truncated, whole, kept)
  sampler_logprobs, drawn_logprobs = chosen - jnp.log(whole), chosen - jnp.log(kept)
  found = None
  if top:
    found = jax.lax.cond(
      jnp.any(active & sampling.top),
      lambda: _top_tokens(scale(logits_VxS), jnp.log(whole), top),
      lambda: TopTokens(jnp.zeros((logits.shape[0], top), jnp.int32), jnp.zeros((logits.shape[0], top), jnp.float32)),
    )
  return tokens, sampler_logprobs, jnp.where(greedy, 0.0, drawn_logprobs), found


def _most_likely(blocks: jax.Array) -> jax.Array:
  """Returns the most likely token of each row, int32 [S]; of equal ones the lowest id."""
  block = jnp.argmax(blocks.max(1), axis=0)
  return (block * blocks.shape[1] + jnp.argmax(take_at(blocks, block), axis=0)).astype(jnp.int32)


def _top_tokens(scaled_VxS: jax.Array, log_whole: jax.Array, top: int) -> TopTokens:
  scaled, tokens = jax.lax.top_k(scaled_VxS.T, min(top, scaled_VxS.shape[0]))
  missing = ((0, 0), (0, top - scaled.shape[1]))
  logprobs = jnp.pad(scaled - log_whole[:, None], missing, constant_values=-jnp.inf)
  return TopTokens(jnp.pad(tokens.astype(jnp.int32), missing), logprobs)


def _smallest(scaled_VxS: jax.Array, blocks: jax.Array, sampling: RowSampling, needed: jax.Array) -> jax.Array:
  """Finds the smallest scaled logit that each row keeps, [S].

  Top-k, then min-p, then top-p leave tokens out, as in `draw.truncate`.

  Args:
    scaled_VxS: float32 [V, S], at most 0.
    blocks: the same numbers [n, W, S], padded with -inf.
    sampling: of each row.
    needed: bool [S], rows that are truncated and active.
  """
  vocab = scaled_VxS.shape[0]
  first = jax.lax.top_k(scaled_VxS.T, min(_FIRST, vocab))[0]
  of_first = first.shape[1]

  has_k = (sampling.top_k > 0) & (sampling.top_k < vocab)
  at = jnp.clip(sampling.top_k - 1, 0, of_first - 1)
  kth = jnp.take_along_axis(first, at[:, None], axis=1)[:, 0]
  ones = lambda: jnp.where(blocks > -jnp.inf, 1.0, 0.0)  # noqa: E731
  count = sampling.top_k.astype(jnp.float32)
  kth = _searched(blocks, ones, count, needed & has_k & (sampling.top_k > of_first), kth)
  smallest = jnp.maximum(jnp.where(has_k, kth, -jnp.inf), sampling.floor)

  weigh = lambda x, rows: jnp.where(x >= smallest.reshape(rows), jnp.exp(x), 0.0)  # noqa: E731
  weights = weigh(first, (-1, 1))
  sums = jnp.cumsum(weights, axis=1)
  wanted = sampling.top_p * weigh(blocks, (1, 1, -1)).sum(1).sum(0)
  number = jnp.sum(sums - weights < wanted[:, None], axis=1)
  nth = jnp.take_along_axis(first, jnp.maximum(number, 1)[:, None] - 1, axis=1)[:, 0]
  beyond = needed & (sampling.top_p < 1) & (sums[:, -1] < wanted)
  nth = _searched(blocks, lambda: weigh(blocks, (1, 1, -1)), wanted, beyond, nth)
  return jnp.where(sampling.top_p < 1, jnp.maximum(nth, smallest), smallest)


def _searched(
  blocks: jax.Array, weights: Callable[[], jax.Array], wanted: jax.Array, rows: jax.Array, found: jax.Array
) -> jax.Array:
  """Finds, in some rows, the largest number from which on weights add up to enough.

  Sums of more numbers of at least 0, added in one order, are never smaller, so halving finds it for sure.

  Args:
    blocks: float32 [n, W, S], at most 0.
    weights: makes float32 [n, W, S], at least 0.
    wanted: float32 [S], what they have to add up to; if all do not, all are kept.
    rows: bool [S], rows to search in.
    found: float32 [S].
  """

  def search():
    below = jax.lax.bitcast_convert_type(jnp.abs(blocks), jnp.int32)  # how far below the largest; ordered as its bits
    each = weights()

    def halve(ends):
      low, high = ends
      middle = low + (high - low) // 2
      enough = jnp.where(below <= middle.reshape(1, 1, -1), each, 0.0).sum(1).sum(0) >= wanted
      return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    low = jnp.where(rows, -1, _INFINITY - 1)
    ends = low, jnp.full_like(low, _INFINITY)
    _, high = jax.lax.while_loop(lambda ends: jnp.any(ends[1] - ends[0] > 1), halve, ends)
    return jnp.where(rows, -jax.lax.bitcast_convert_type(high, jnp.float32), found)

  return jax.lax.cond(jnp.any(rows), search, lambda: found)
