"""Log-probabilities of given tokens, without ever holding the logits of more than a chunk of them.

A vocabulary of 150 000 makes the logits of one answer larger than the model's other activations together. So hidden
states are cut into chunks of tokens; a scan turns each chunk into logits, reduces them to a logprob (and an entropy) a
token and forgets them; the backward pass computes them once more, and makes a chunk's gradient in a single pass.

Cuts run along T and, where there are more rows than a chunk holds, along rows that live on one device. They never run
across a sharded axis: that would move logits between devices. The target's logit is picked by comparison, not by a
gather, so that a vocabulary sharded over devices needs only sums of one number a token.
"""

from collections.abc import Callable

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
    temperature: divides the capped logits; that at which the tokens were drawn. A constant: it gets no gradient.
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
  reduce = _reduction(jnp.result_type(hidden, unembedding, jnp.float32), softcap)
  chunks = split(hidden.reshape(rows, length, width)), split(targets.reshape(rows, length))
  logprobs, entropies = reduce(chunks[0], unembedding, chunks[1], jax.lax.stop_gradient(temperature))
  logprobs, entropies = (join(x).reshape(targets.shape) for x in (logprobs, entropies))
  return (logprobs, entropies) if entropy else logprobs


def _reduction(dtype: jnp.dtype, softcap: float | None) -> Callable[..., tuple[jax.Array, jax.Array]]:
  """The function from chunks to logprobs and entropies, with a gradient that makes each chunk's logits once more.

  Its own gradient, since what autodiff makes of a softmax takes several more passes over the logits, which cost more
  than the products; and since the gradient of the unembedding can then be added up in float32 and once per shard: each
  adds up its own, and the sum over devices is taken once, outside the scan.

  S shards, R rows and C tokens of a chunk (R · C ≤ chunk), D width, V vocabulary.
  """

  def logits_of(hidden_SxRxCxD, unembedding, temperature):
    """Capped and divided by the temperature, and the factor that a gradient takes on its way back through both."""
    kernel = unembedding.astype(hidden_SxRxCxD.dtype)
    logits = jnp.einsum("srcd,dv->srcv", hidden_SxRxCxD, kernel, preferred_element_type=dtype)
    if softcap is None:
      return logits / temperature, 1 / jnp.asarray(temperature, dtype)
    capped = jnp.tanh(logits / softcap)
    return softcap * capped / temperature, (1 - capped * capped) / temperature

  def is_target(logits, targets_SxRxC):
    return jax.lax.broadcasted_iota(targets_SxRxC.dtype, logits.shape, 3) == targets_SxRxC[..., None]

  def forward_chunk(hidden_SxRxCxD, unembedding, targets_SxRxC, temperature):
    logits, _ = logits_of(hidden_SxRxCxD, unembedding, temperature)
    largest = logits.max(-1, keepdims=True)
    below = logits - largest
    weights = jnp.exp(below)
    summed = (weights, weights * below, jnp.where(is_target(logits, targets_SxRxC), below, 0))
    # One reduction of all three, so that the logits are read once more and not three times.
    add = lambda a, b: tuple(x + y for x, y in zip(a, b))  # noqa: E731
    total, weighted, chosen = jax.lax.reduce(summed, (jnp.zeros((), dtype),) * 3, add, (3,))
    log_total = jnp.log(total)
    return chosen - log_total, log_total - weighted / total, largest[..., 0] + log_total

  def forward(hidden, unembedding, targets, temperature):
    step = lambda _, chunk: (None, forward_chunk(chunk[0], unembedding, chunk[1], temperature))  # noqa: E731
    _, (logprobs, entropies, normalizers) = jax.lax.scan(step, None, (hidden, targets))
    return (logprobs, entropies), (hidden, unembedding, targets, temperature, entropies, normalizers)

  def backward(kept, cotangents):
    hidden, unembedding, targets, temperature, entropies, normalizers = kept

    def step(gradient_SxDxV, chunk):
      hidden_SxRxCxD, targets_SxRxC, entropies, normalizers, to_logprobs, to_entropies = chunk
      logits, factor = logits_of(hidden_SxRxCxD, unembedding, temperature)
      log_p = logits - normalizers[..., None]
      # dlog p_target / dz_v = [v is the target] - p_v;  dH / dz_v = -p_v (log p_v + H)
      to_logits = -jnp.exp(log_p) * (to_logprobs[..., None] + to_entropies[..., None] * (log_p + entropies[..., None]))
      to_logits = (to_logits + jnp.where(is_target(logits, targets_SxRxC), to_logprobs[..., None], 0)) * factor
      to_logits = to_logits.astype(hidden_SxRxCxD.dtype)
      kernel = unembedding.astype(hidden_SxRxCxD.dtype)
      to_hidden = jnp.einsum("srcv,dv->srcd", to_logits, kernel, preferred_element_type=dtype)
      gradient_SxDxV += jnp.einsum("srcd,srcv->sdv", hidden_SxRxCxD, to_logits, preferred_element_type=dtype)
      return gradient_SxDxV, to_hidden.astype(hidden_SxRxCxD.dtype)

    zeros = jnp.zeros((hidden.shape[1], *unembedding.shape), dtype)
    gradient_SxDxV, to_hidden = jax.lax.scan(step, zeros, (hidden, targets, entropies, normalizers, *cotangents))
    return to_hidden, gradient_SxDxV.sum(0).astype(unembedding.dtype), None, jnp.zeros_like(temperature)

  reduce = jax.custom_vjp(lambda *arguments: forward(*arguments)[0])
  reduce.defvjp(forward, backward)
  return reduce


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
