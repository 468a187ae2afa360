"""Computes a chunk's logits over the whole vocabulary, their reductions, and the gradient.

`losses.logprobs` and `losses.fused_loss` scan over such chunks. S shards, R rows and C tokens of a chunk, D width, V
vocabulary.

Arrays are cut along T. If there are more rows than a chunk holds, they are also cut along the rows of one device. They
are never cut along a sharded axis, because that would move logits between devices. The target's logit is selected by
comparison, not by a gather. So a vocabulary that is sharded over devices needs only sums of one number a token.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses.two_sum import two_sum

# Ranges [start, end) of ids.
Ranges = tuple[tuple[int, int], ...]
_ABSENT = -1e30  # finite, since 0 times infinity is no number; its exponential is 0


@dataclasses.dataclass(frozen=True)
class Head:
  """Describes how hidden states become logits: cap(hidden · unembedding) / temperature.

  Gradients are written out. Autodiff's gradient of a softmax makes several more passes over the logits, which cost more
  than the products.

  Attributes:
    dtype: dtype of the logits and of all that is computed from them.
    softcap: bound of the logits' absolute value; None: no bound.
    absent: ids of probability 0: those that the tokeniser does not have.
  """

  dtype: jnp.dtype
  softcap: float | None
  absent: Ranges = ()

  def logits(
    self, hidden_SxRxCxD: jax.Array, unembedding: jax.Array, temperature: chex.Numeric
  ) -> tuple[jax.Array, jax.Array]:
    """Computes the logits [S, R, C, V], and their derivative.

    The derivative is that of the cap and the temperature: a number or [S, R, C, V].
    """
    kernel = unembedding.astype(hidden_SxRxCxD.dtype)
    logits = jnp.einsum("srcd,dv->srcv", hidden_SxRxCxD, kernel, preferred_element_type=self.dtype)
    if self.softcap is None:
      return without_absent(logits / temperature, self.absent), 1 / jnp.asarray(temperature, self.dtype)
    capped = jnp.tanh(logits / self.softcap)
    factor = (1 - capped * capped) / temperature
    return without_absent(self.softcap * capped / temperature, self.absent), factor

  def reduce(self, logits: jax.Array, targets_SxRxC: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Reduces logits to the targets' logprobs, the entropies and the log-normalisers, each [S, R, C].

    Logprobs are right to 1e-5 and entropies to 5e-5 in float32, at 262,144 entries too. `_add` says how.
    """
    largest = logits.max(-1, keepdims=True)
    below = logits - largest
    weights = jnp.exp(below)
    lost = jnp.zeros_like(weights)  # no rounding yet
    summed = (weights, lost, weights * below, lost, jnp.where(_is_target(logits, targets_SxRxC), below, 0))
    # One reduction of all three reads the logits once, not three times.
    total, total_lost, weighted, weighted_lost, chosen = jax.lax.reduce(
      summed, (jnp.zeros((), self.dtype),) * len(summed), _add, (3,)
    )
    total, weighted = total + total_lost, weighted + weighted_lost
    log_total = jnp.log(total)
    return chosen - log_total, log_total - weighted / total, largest[..., 0] + log_total

  def gradient(
    self,
    hidden_SxRxCxD: jax.Array,
    unembedding: jax.Array,
    targets_SxRxC: jax.Array,
    logits: jax.Array,
    factor: jax.Array,
    entropies: jax.Array,
    normalizers: jax.Array,
    to_logprobs: jax.Array,
    to_entropies: jax.Array,
  ) -> tuple[jax.Array, jax.Array]:
    """Computes gradients to hidden states and unembedding from those to logprobs and entropies.

    Args:
      hidden_SxRxCxD: the chunk's hidden states.
      unembedding: [D, V].
      targets_SxRxC: int, the targets.
      logits: [S, R, C, V], from `logits`.
      factor: the logits' derivative, from `logits`.
      entropies: [S, R, C], from `reduce`.
      normalizers: [S, R, C], the log-normalisers from `reduce`.
      to_logprobs: [S, R, C], gradient to the logprobs.
      to_entropies: [S, R, C], gradient to the entropies.

    Returns:
      (gradient to the hidden states, in their dtype; each shard's part [S, D, V] of the gradient to the unembedding).
    """
    log_p = logits - normalizers[..., None]
    # dlog p_target / dz_v = [v is the target] - p_v;  dH / dz_v = -p_v (log p_v + H)
    to_logits = -jnp.exp(log_p) * (to_logprobs[..., None] + to_entropies[..., None] * (log_p + entropies[..., None]))
    to_logits = (to_logits + jnp.where(_is_target(logits, targets_SxRxC), to_logprobs[..., None], 0)) * factor
    to_logits = to_logits.astype(hidden_SxRxCxD.dtype)
    kernel = unembedding.astype(hidden_SxRxCxD.dtype)
    to_hidden = jnp.einsum("srcv,dv->srcd", to_logits, kernel, preferred_element_type=self.dtype)
    to_unembedding_SxDxV = jnp.einsum("srcd,srcv->sdv", hidden_SxRxCxD, to_logits, preferred_element_type=self.dtype)
    return to_hidden.astype(hidden_SxRxCxD.dtype), to_unembedding_SxDxV


def _add(a: tuple[jax.Array, ...], b: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
  """Adds two partial results of `Head.reduce`.

  A result has two sums, each followed by what rounding took from it, and a third sum.

  A CPU adds up the entries of this reduction one after the other. Plain float32 sums over a vocabulary would be off by
  up to 1e-3 of their value, always to the same side. Keeping what is lost is right for any order of additions. So the
  vocabulary need not be cut into blocks, which a TPU would copy. The third sum has one entry that is not 0.
  """
  (total, weighted), lost = zip(two_sum(a[0], b[0]), two_sum(a[2], b[2]))
  return total, a[1] + b[1] + lost[0], weighted, a[3] + b[3] + lost[1], a[4] + b[4]


def without_absent(logits: jax.Array, absent: Ranges) -> jax.Array:
  """Gives ids probability 0, by logits of -1e30.

  Args:
    logits: [..., V].
    absent: the ids; without any the logits are returned as they are.
  """
  if not absent:
    return logits
  ids = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
  is_absent = [(ids >= start) & (ids < end) for start, end in absent]
  return jnp.where(functools.reduce(jnp.logical_or, is_absent), _ABSENT, logits)


def _is_target(logits: jax.Array, targets_SxRxC: jax.Array) -> jax.Array:
  return jax.lax.broadcasted_iota(targets_SxRxC.dtype, logits.shape, 3) == targets_SxRxC[..., None]


@dataclasses.dataclass(frozen=True)
class Cut:
  """Holds the functions that cut [B, T, ...] into chunks and join them again.

  Attributes:
    split: turns an array [B, T, ...] into chunks [N, S, R, C, ...] with R · C ≤ chunk, filled up with zeros.
    join: turns chunks [N, S, R, C] back into [B, T].
    needed: turns the number of tokens at the start of each row that are needed into that of chunks, counted from the
      first, that have them; None into None.
  """

  split: Callable[[jax.Array], jax.Array]
  join: Callable[[jax.Array], jax.Array]
  needed: Callable[[chex.Numeric | None], jax.Array | None]


def over_chunks(
  step: Callable[..., tuple[Any, Any]], carry: Any, chunks: chex.ArrayTree, needed: jax.Array | None
) -> tuple[Any, Any]:
  """Scans over the first chunks only.

  Args:
    step: (carry, chunk) to (carry, results of the chunk), as for `jax.lax.scan`.
    carry: the first carry.
    chunks: arrays [N, ...].
    needed: int [], the number of chunks to scan over, known when the program runs. None: all.

  Returns:
    The last carry, and the results [N, ...], zeros for the other chunks.
  """
  if needed is None:
    return jax.lax.scan(step, carry, chunks)
  take = lambda i: jax.tree.map(lambda x: x[i], chunks)  # noqa: E731
  _, shapes = jax.eval_shape(lambda: step(carry, take(0)))
  number = len(jax.tree.leaves(chunks)[0])
  results = jax.tree.map(lambda x: jnp.zeros((number, *x.shape), x.dtype), shapes)

  def one(i, state):
    carry, results = state
    carry, found = step(carry, take(i))
    return carry, jax.tree.map(lambda results, x: results.at[i].set(x), results, found)

  return jax.lax.fori_loop(0, needed, one, (carry, results))


def prepare(
  hidden: chex.Array,
  unembedding: chex.Array,
  targets: chex.Array,
  *,
  softcap: float | None,
  absent: Ranges = (),
  chunk: int,
  shards: int,
) -> tuple[Head, Cut]:
  """Checks the arguments of `token_logprobs`, and makes the head and the cut.

  The cut is for arrays whose first axes are those of `targets`.

  Args:
    hidden: [..., T, D].
    unembedding: [D, V].
    targets: [..., T].
    softcap: as in `Head`.
    absent: as in `Head`.
    chunk: the most tokens of a chunk, per shard.
    shards: S, a divisor of the number of rows.

  Raises:
    AssertionError: if the shapes do not fit each other, or the chunk is below 1.
    ValueError: if shards does not divide the number of rows.
  """
  *leading, length, width = jnp.shape(hidden)
  chex.assert_rank(unembedding, 2)
  chex.assert_axis_dimension(unembedding, 0, width)
  chex.assert_shape(targets, (*leading, length))
  chex.assert_scalar_positive(chunk)
  rows = jnp.size(targets) // max(length, 1)
  if rows % shards:
    raise ValueError(f"shards: expected a divisor of the {rows} rows of hidden {jnp.shape(hidden)}, found {shards}")
  head = Head(jnp.result_type(hidden, unembedding, jnp.float32), softcap, absent)
  return head, _cut(shards, rows // shards, length, chunk, tuple(leading))


def _cut(shards: int, rows: int, length: int, chunk: int, leading: tuple[int, ...]) -> Cut:
  row_pieces = -(-rows // min(rows, chunk))
  r = -(-rows // row_pieces)
  pieces = -(-length // min(length, chunk // r))
  c = -(-length // pieces)  # pieces of equal length need the least padding

  def split(x):
    rest = jnp.shape(x)[len(leading) + 1 :]
    x = jnp.asarray(x).reshape(shards, rows, length, *rest)
    x = jnp.pad(x, [(0, 0), (0, row_pieces * r - rows), (0, pieces * c - length), *((0, 0) for _ in rest)])
    x = x.reshape(shards, row_pieces, r, pieces, c, *rest)
    x = jnp.moveaxis(x, (1, 3), (0, 1))
    return x.reshape(row_pieces * pieces, shards, r, c, *rest)

  def join(x):
    x = x.reshape(row_pieces, pieces, shards, r, c)
    x = jnp.moveaxis(x, (0, 1), (1, 3)).reshape(shards, row_pieces * r, pieces * c)
    return x[:, :rows, :length].reshape(*leading, length)

  def needed(count):
    if count is None:
      return None
    # Pieces of rows are the outer order: with several of them, every chunk is needed.
    return -(-jnp.asarray(count) // c) if row_pieces == 1 else jnp.asarray(row_pieces * pieces)

  return Cut(split, join, needed)
