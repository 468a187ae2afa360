"""Log-probabilities of given tokens, without ever holding the logits of more than a chunk of them.

A vocabulary of 150 000 makes the logits of one answer larger than the model's other activations together. So hidden
states are cut into chunks of tokens; a scan turns each chunk into logits, reduces them to a logprob (and an entropy) a
token and forgets them; the backward pass computes them once more.

Cuts run along T and, where there are more rows than a chunk holds, along rows that live on one device. They never run
across a sharded axis: that would move logits between devices. The target's logit is picked by comparison, not by a
gather, so that a vocabulary sharded over devices needs only sums of one number a token.
"""

import functools

import chex
import jax
import jax.numpy as jnp


def token_logprobs(
  hidden: chex.Array,
  unembedding: chex.Array,
  targets: chex.Array,
  *,
  temperature: chex.Numeric = 1.0,
  softcap: float | None = None,
  chunk: int,
  entropy: bool = False,
  shards: int = 1,
) -> jax.Array | tuple[jax.Array, jax.Array]:
  """Log-probability of each target token under softmax(cap(hidden · unembedding) / temperature).

  logits = hidden · unembedding;  cap(z) = softcap · tanh(z / softcap);  logprob = z_target − logsumexp(z)
  entropy = logsumexp(z) − Σ_v softmax(z)_v z_v

  Soft cap: "Gemma 2" (arXiv:2408.00118), section 2.

  Args:
    hidden: [..., T, D], the states that predict the targets: hidden[t] is before token t.
    unembedding: [D, V]. It is multiplied in the dtype of `hidden`, and its gradient is summed over chunks in at least
      float32.
    targets: [..., T] integers in [0, V).
    temperature: divides the capped logits; that at which the tokens were drawn.
    softcap: bound of the logits' absolute value; None: no bound.
    chunk: the most tokens, per shard, whose logits exist at a time, forward or backward.
    entropy: whether to return the entropies as well. They are differentiable.
    shards: over how many devices the first leading axis of `hidden` is sharded; divides it. Chunks then hold `chunk`
      tokens of each shard, and the gradient of the unembedding is summed over shards once instead of once a chunk.

  Returns:
    Logprobs [..., T] in at least float32; with `entropy`, (logprobs, entropies), both [..., T], in nats.
  """
  *leading, length, width = jnp.shape(hidden)
  chex.assert_rank(unembedding, 2)
  chex.assert_axis_dimension(unembedding, 0, width)
  chex.assert_shape(targets, (*leading, length))
  chex.assert_scalar_positive(chunk)
  hidden, unembedding, targets = jnp.asarray(hidden), jnp.asarray(unembedding), jnp.asarray(targets)
  rows = targets.size // max(length, 1)
  if rows % shards:
    raise ValueError(f"shards: expected a divisor of the {rows} rows of hidden {jnp.shape(hidden)}, found {shards}")
  split, join = _cutting(shards, rows // shards, length, chunk)
  dtype = jnp.result_type(hidden, unembedding, jnp.float32)
  # In at least float32, as its cotangent is what the scan's backward adds the chunks' gradients up in; and once per
  # shard, so that each shard adds up its own and the sum over devices is taken once, outside the scan.
  unembedding_SxDxV = jnp.broadcast_to(unembedding.astype(dtype), (shards, *unembedding.shape))

  # S shards, R rows and C tokens of a chunk (R · C ≤ chunk), D width, V vocabulary.
  @functools.partial(jax.checkpoint, prevent_cse=False)  # within a scan nothing can be merged across the recomputation
  def reduce_chunk(hidden_SxRxCxD, targets_SxRxC):
    kernel = unembedding_SxDxV.astype(hidden.dtype)
    logits = jnp.einsum("srcd,sdv->srcv", hidden_SxRxCxD, kernel, preferred_element_type=dtype)
    if softcap is not None:
      logits = softcap * jnp.tanh(logits / softcap)
    logits = logits / temperature
    normalizer = jax.nn.logsumexp(logits, axis=-1)
    is_target = jax.lax.broadcasted_iota(targets.dtype, logits.shape, 3) == targets_SxRxC[..., None]
    logprobs = jnp.sum(jnp.where(is_target, logits, 0), axis=-1) - normalizer
    if not entropy:
      return (logprobs,)
    mean_logit = jnp.sum(jnp.exp(logits - normalizer[..., None]) * logits, axis=-1)
    return logprobs, normalizer - mean_logit

  chunks = split(hidden.reshape(rows, length, width)), split(targets.reshape(rows, length))
  _, reduced = jax.lax.scan(lambda carry, chunk: (carry, reduce_chunk(*chunk)), None, chunks)
  reduced = tuple(join(x).reshape(targets.shape) for x in reduced)
  return reduced if entropy else reduced[0]


def _cutting(shards: int, rows: int, length: int, chunk: int):
  """Functions from [S · rows, length, ...] to chunks [N, S, R, C, ...] and back, with R · C ≤ chunk."""
  row_pieces = -(-rows // min(rows, chunk))
  r = -(-rows // row_pieces)
  pieces = -(-length // min(length, chunk // r))
  c = -(-length // pieces)  # pieces of equal length, so that as little as possible is padding

  def split(x):
    rest = x.shape[2:]
    x = x.reshape(shards, rows, length, *rest)
    x = jnp.pad(x, [(0, 0), (0, row_pieces * r - rows), (0, pieces * c - length), *((0, 0) for _ in rest)])
    x = x.reshape(shards, row_pieces, r, pieces, c, *rest)
    x = jnp.moveaxis(x, (1, 3), (0, 1))
    return x.reshape(row_pieces * pieces, shards, r, c, *rest)

  def join(x):
    x = x.reshape(row_pieces, pieces, shards, r, c)
    x = jnp.moveaxis(x, (0, 1), (1, 3)).reshape(shards, row_pieces * r, pieces * c)
    return x[:, :rows, :length]

  return split, join
