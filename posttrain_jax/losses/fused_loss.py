"""Computes a sum of token losses, and its gradient in the same forward pass.

If a token's loss depends on no other token's logprob, a chunk's logits give both the loss and its gradient. So they
are made once: three products with the unembedding instead of four. This holds for PPO's clipped surrogate and its kin,
a KL term, an entropy bonus and the supervised loss. It does not hold where a ratio belongs to a whole answer (GSPO) or
where a statistic of the batch decides (clip-cov): those take `losses.logprobs`.
"""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import aggregate
from posttrain_jax.losses.vocabulary import Head, Ranges, over_chunks, prepare

# (logprobs, entropies, data) to losses, all of one shape.
LossOfTokens = Callable[[jax.Array, jax.Array, Any], jax.Array]


def summed_token_loss(
  loss_of_tokens: LossOfTokens,
  hidden: chex.Array,
  unembedding: chex.Array,
  targets: chex.Array,
  data: chex.ArrayTree,
  *,
  temperature: chex.Numeric = 1.0,
  softcap: float | None = None,
  absent: Ranges = (),
  chunk: int,
  shards: int = 1,
  needed: chex.Numeric | None = None,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  """Computes Σ_t loss_of_tokens(logprob_t, entropy_t, data_t).

  Logprobs and entropies are those of `losses.logprobs.token_logprobs`.

  Args:
    loss_of_tokens: losses of any number of tokens. Each depends on its own token's numbers only, and is 0 where all
      data are 0 (padding). It is differentiated once, where it is applied, and closes over nothing that is traced.
    hidden: [..., T, D], the states that predict the targets.
    unembedding: [D, V].
    targets: [..., T] integers in [0, V).
    data: arrays [..., T], constants for the gradient.
    temperature: divides the capped logits; a constant.
    softcap: bound of the logits' absolute value; None: no bound.
    absent: ranges of ids that the tokeniser does not have. They have probability 0, so no target is one of them.
    chunk: the most tokens, per shard, whose logits exist at a time.
    shards: over how many devices the first leading axis is sharded; divides it.
    needed: int [], tokens at the start of each row that have a loss, known when the program runs; the loss of all later
      ones is taken as 0, and their logits are not made. None: all tokens.

  Returns:
    The loss, with gradients to `hidden` and `unembedding` only, and (logprobs, entropies), constants [..., T], 0 in
    chunks that are not needed; all in at least float32.
  """
  head, cut = prepare(hidden, unembedding, targets, softcap=softcap, absent=absent, chunk=chunk, shards=shards)
  chex.assert_tree_shape_prefix(data, jnp.shape(targets))
  constants = jax.lax.stop_gradient((jax.tree.map(cut.split, data), temperature))
  sum_of_chunks = _sum(head, loss_of_tokens)
  number = cut.needed(needed)
  loss, found = sum_of_chunks(cut.split(hidden), jnp.asarray(unembedding), cut.split(targets), *constants, number)
  return loss, jax.lax.stop_gradient(tuple(map(cut.join, found)))


def _sum(head: Head, loss_of_tokens: LossOfTokens) -> Callable[..., tuple[jax.Array, tuple[jax.Array, jax.Array]]]:
  """Makes the function of chunks whose forward pass keeps the finished gradient."""

  def forward(hidden, unembedding, targets, data, temperature, needed):
    def step(gradient_SxDxV, chunk):
      hidden_SxRxCxD, targets_SxRxC, data = chunk
      logits, factor = head.logits(hidden_SxRxCxD, unembedding, temperature)
      logprobs, entropies, normalizers = head.reduce(logits, targets_SxRxC)
      summed = lambda *found: aggregate.total(loss_of_tokens(*found, data))  # noqa: E731
      loss, cotangents = jax.value_and_grad(summed, argnums=(0, 1))(logprobs, entropies)
      reduced = entropies, normalizers, *cotangents
      to_hidden, more = head.gradient(hidden_SxRxCxD, unembedding, targets_SxRxC, logits, factor, *reduced)
      return gradient_SxDxV + more, (loss, logprobs, entropies, to_hidden)

    zeros = jnp.zeros((hidden.shape[1], *unembedding.shape), head.dtype)
    gradient_SxDxV, (losses, *found, to_hidden) = over_chunks(step, zeros, (hidden, targets, data), needed)
    to_unembedding = gradient_SxDxV.sum(0).astype(unembedding.dtype)
    return (losses.sum(), tuple(found)), (to_hidden, to_unembedding, temperature)

  def backward(kept, cotangents):
    to_hidden, to_unembedding, temperature = kept
    scale = lambda x: (x * cotangents[0]).astype(x.dtype)  # noqa: E731
    return scale(to_hidden), scale(to_unembedding), None, None, jnp.zeros_like(temperature), None

  loss_of_chunks = jax.custom_vjp(lambda *arguments: forward(*arguments)[0])
  loss_of_chunks.defvjp(forward, backward)
  return loss_of_chunks
