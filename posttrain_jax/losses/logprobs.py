"""Computes logprobs of given tokens, with the logits of one chunk at a time.

With a vocabulary of 150 000, the logits of one answer are larger than all other activations of the model. So hidden
states are cut into chunks of tokens (`losses.vocabulary`). A scan makes each chunk's logits, reduces them to a logprob
(and an entropy) for each token, and drops them. The backward pass makes them again, and a chunk's gradient in a single
pass. A loss that is a sum of one number a token needs no second pass: `losses.fused_loss`.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses.vocabulary import Head, Ranges, over_chunks, prepare


def token_logprobs(
  hidden: chex.Array,
  unembedding: chex.Array,
  targets: chex.Array,
  *,
  temperature: chex.Numeric = 1.0,
  softcap: float | None = None,
  absent: Ranges = (),
  chunk: int,
  entropy: bool = False,
  shards: int = 1,
  needed: chex.Numeric | None = None,
) -> jax.Array | tuple[jax.Array, jax.Array]:
  """Computes the logprob of each target token, and on request the entropies.

  z = cap(hidden · unembedding) / temperature;  cap(x) = softcap · tanh(x / softcap)
  logprob = z_target − logsumexp(z);  entropy = logsumexp(z) − Σ_v softmax(z)_v z_v

  Soft cap: "Gemma 2" (arXiv:2408.00118), section 2.

  Args:
    hidden: float [..., T, D], the states that predict the targets: hidden[t] is before token t.
    unembedding: float [D, V]. It is multiplied in the dtype of `hidden`, and its gradient is summed over chunks in at
      least float32.
    targets: int [..., T], in [0, V).
    temperature: divides the capped logits; the temperature at which the tokens were drawn. A constant: it gets no
      gradient.
    softcap: bound of the logits' absolute value; None: no bound.
    absent: ranges of ids that the tokeniser does not have. They have probability 0, so no target is one of them.
    chunk: the most tokens, per shard, whose logits exist at a time, in the forward or the backward pass.
    entropy: True returns the entropies too. They are differentiable.
    shards: number of devices over which the first leading axis of `hidden` is sharded; divides that axis. Chunks then
      hold `chunk` tokens of each shard, and the gradient of the unembedding is summed over shards once, not once for
      each chunk.
    needed: int [], tokens at the start of each row whose logprobs are needed, known when the program runs. None: all.

  Returns:
    Logprobs [..., T] in at least float32, 0 in chunks that are not needed; with `entropy`, (logprobs, entropies), both
    [..., T], in nats.

  Raises:
    AssertionError: if the shapes do not fit each other, or the chunk is below 1.
    ValueError: if shards does not divide the number of rows.
  """
  head, cut = prepare(hidden, unembedding, targets, softcap=softcap, absent=absent, chunk=chunk, shards=shards)
  chunks = cut.split(hidden), jnp.asarray(unembedding), cut.split(targets), jax.lax.stop_gradient(temperature)
  chunks += (cut.needed(needed),)
  logprobs, entropies = map(cut.join, _reduction(head)(*chunks))
  return (logprobs, entropies) if entropy else logprobs


def _reduction(head: Head) -> Callable[..., tuple[jax.Array, jax.Array]]:
  """Returns the function from chunks to logprobs and entropies.

  Its gradient makes each chunk's logits again. Each shard adds up its own gradient of the unembedding in `head.dtype`;
  the sum over devices is taken once, outside the scan.
  """

  def forward(hidden, unembedding, targets, temperature, needed):
    def step(_, chunk):
      hidden_SxRxCxD, targets_SxRxC = chunk
      return None, head.reduce(head.logits(hidden_SxRxCxD, unembedding, temperature)[0], targets_SxRxC)

    _, (logprobs, entropies, normalizers) = over_chunks(step, None, (hidden, targets), needed)
    return (logprobs, entropies), (hidden, unembedding, targets, temperature, needed, entropies, normalizers)

  def backward(kept, cotangents):
    hidden, unembedding, targets, temperature, needed, entropies, normalizers = kept

    def step(gradient_SxDxV, chunk):
      hidden_SxRxCxD, targets_SxRxC, *reduced = chunk
      logits, factor = head.logits(hidden_SxRxCxD, unembedding, temperature)
      to_hidden, more = head.gradient(hidden_SxRxCxD, unembedding, targets_SxRxC, logits, factor, *reduced)
      return gradient_SxDxV + more, to_hidden

    zeros = jnp.zeros((hidden.shape[1], *unembedding.shape), head.dtype)
    chunks = hidden, targets, entropies, normalizers, *cotangents
    gradient_SxDxV, to_hidden = over_chunks(step, zeros, chunks, needed)
    return to_hidden, gradient_SxDxV.sum(0).astype(unembedding.dtype), None, jnp.zeros_like(temperature), None

  reduce = jax.custom_vjp(lambda *arguments: forward(*arguments)[0])
  reduce.defvjp(forward, backward)
  return reduce
