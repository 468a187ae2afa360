"""Computes losses against given tokens or given distributions."""

import chex
import jax
import jax.numpy as jnp

from posttrain_jax.losses import masking


def next_token_nll(logprobs: chex.Array, mask: chex.Array) -> jax.Array:
  """Computes the negative log-likelihood of each counted token.

  loss_t = −log π(token t | tokens before it)

  Args:
    logprobs: float [B, T], token logprobs (`losses.logprobs.token_logprobs`); B stands for any leading axes.
    mask: [B, T], bool or float, not 0 on tokens to learn: the assistant's, including the token that ends each turn.

  Returns:
    [B, T] losses in nats, in at least float32, 0 where the mask is 0.
  """
  mask, logprobs = masking.counted(mask, logprobs)
  return jnp.where(mask, -logprobs, 0)


def soft_target_cross_entropy(logits: chex.Array, targets: chex.Array) -> jax.Array:
  """Computes the cross-entropy of a prediction against a distribution.

  loss = −Σ_v targets_v log softmax(logits)_v

  Soft preference labels, a judge's probabilities of (A) and (B): "Constitutional AI" (arXiv:2212.08073), section 4. A
  target of 0 adds nothing, even if its logit is −∞.

  Args:
    logits: float [..., V].
    targets: float [..., V], probabilities that sum to 1; constants: no gradient flows into them.

  Returns:
    [...] losses in nats, in at least float32.
  """
  chex.assert_equal_shape([logits, targets])
  dtype = masking.at_least_float32(logits, targets)
  targets = jax.lax.stop_gradient(jnp.asarray(targets).astype(dtype))
  logprobs = jax.nn.log_softmax(jnp.asarray(logits).astype(dtype), axis=-1)
  return -jnp.sum(jnp.where(targets > 0, targets * logprobs, 0), axis=-1)
