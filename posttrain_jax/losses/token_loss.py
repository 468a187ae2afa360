"""A loss that is a sum of one number a token, with its gradient made in the forward pass.

Where no token's loss looks at another token's log probability, a chunk's logits tell both the loss and its gradient, so
they are made once: three products with the unembedding in place of four, and no chunk is seen twice. That holds for
PPO's clipped surrogate and its kin, a KL term, an entropy bonus and the supervised loss; where a ratio belongs to a
whole answer (GSPO) or a batch's statistics decide (clip-cov), take `losses.logprobs`.
"""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses.vocabulary import Head, prepare

# (logprobs, entropies, data) to losses, all of one shape.
PerToken = Callable[[jax.Array, jax.Array, Any], jax.Array]


def token_loss(
  per_token: PerToken,
  hidden: chex.Array,
  unembedding: chex.Array,
  targets: chex.Array,
  data: chex.ArrayTree,
  *,
  temperature: chex.Numeric = 1.0,
  softcap: float | None = None,
  chunk: int,
  shards: int = 1,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  """Σ_t per_token(logprob_t, entropy_t, data_t), of the logprobs and entropies of `losses.logprobs.token_logprobs`.

  Args:
    per_token: losses of any number of tokens, each made of its own numbers only, and 0 where all data are 0 (padding).
      It is differentiated once, where it is applied, and closes over nothing that is traced.
    hidden: [..., T, D], the states that predict the targets.
    unembedding: [D, V].
    targets: [..., T] integers in [0, V).
    data: arrays [..., T], constants for the gradient.
    temperature: divides the capped logits; a constant.
    softcap: bound of the logits' absolute value; None: no bound.
    chunk: the most tokens, per shard, whose logits exist at a time.
    shards: over how many devices the first leading axis is sharded; divides it.

  Returns:
    The loss, with gradients to `hidden` and `unembedding` only, and (logprobs, entropies), constants [..., T]; all in
    at least float32.
  """
  head, cut = prepare(hidden, unembedding, targets, softcap=softcap, chunk=chunk, shards=shards)
  chex.assert_tree_shape_prefix(data, jnp.shape(targets))
  constants = jax.lax.stop_gradient((jax.tree.map(cut.split, data), temperature))
  loss, found = _sum(head, per_token)(cut.split(hidden), jnp.asarray(unembedding), cut.split(targets), *constants)
  return loss, jax.lax.stop_gradient(tuple(map(cut.join, found)))


def _sum(head: Head, per_token: PerToken) -> Callable[..., tuple[jax.Array, tuple[jax.Array, jax.Array]]]:
  """The function from chunks to the loss and what it is made of, whose forward pass keeps the finished gradient."""

  def forward(hidden, unembedding, targets, data, temperature):
    def step(carry, chunk):
      loss, gradient_SxDxV = carry
      hidden_SxRxCxD, targets_SxRxC, data = chunk
      logits, factor = head.logits(hidden_SxRxCxD, unembedding, temperature)
      logprobs, entropies, normalizers = head.reduce(logits, targets_SxRxC)
      summed = lambda *found: per_token(*found, data).sum()  # noqa: E731
      more_loss, cotangents = jax.value_and_grad(summed, argnums=(0, 1))(logprobs, entropies)
      reduced = entropies, normalizers, *cotangents
      to_hidden, more = head.gradient(hidden_SxRxCxD, unembedding, targets_SxRxC, logits, factor, *reduced)
      return (loss + more_loss, gradient_SxDxV + more), (logprobs, entropies, to_hidden)

    zeros = jnp.zeros((), head.dtype), jnp.zeros((hidden.shape[1], *unembedding.shape), head.dtype)
    (loss, gradient_SxDxV), (*found, to_hidden) = jax.lax.scan(step, zeros, (hidden, targets, data))
    to_unembedding = gradient_SxDxV.sum(0).astype(unembedding.dtype)
    return (loss, tuple(found)), (to_hidden, to_unembedding, temperature)

  def backward(kept, cotangents):
    to_hidden, to_unembedding, temperature = kept
    scale = lambda x: (x * cotangents[0]).astype(x.dtype)  # noqa: E731
    return scale(to_hidden), scale(to_unembedding), None, None, jnp.zeros_like(temperature)

  total = jax.custom_vjp(lambda *arguments: forward(*arguments)[0])
  total.defvjp(forward, backward)
  return total
