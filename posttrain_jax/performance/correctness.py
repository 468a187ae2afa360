"""Checks attention, decoding and losses in bfloat16 on this device against float32 formulas.

The references multiply in full float32 (on GPUs JAX's default is less) and use none of the platform's kernels. Errors
are relative: the root of the sum of squared differences, divided by that of the squared reference.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from posttrain_jax.losses.fused_loss import summed_token_loss
from posttrain_jax.losses.logprobs import token_logprobs
from posttrain_jax.models import attention
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.transformer import Transformer, abstract_transformer
from posttrain_jax.performance.rollout import loaded_engine
from posttrain_jax.performance.work import Work

# Eight bits of mantissa round by up to 1/256 in each number. Larger errors are mistakes.
_BOUND = 0.02
_exact = functools.partial(jax.default_matmul_precision, "highest")


def checks(*, length: int = 512, rows: int = 2, vocab: int = 4096) -> list[dict[str, Any]]:
  """Runs all checks, with heads of 64 and 128 numbers and grouped queries.

  Args:
    length: tokens of a row, a multiple of 4.
    rows: rows of attention, and prompts of decoding.
    vocab: size of the vocabulary.

  Returns:
    For each check its name, error and bound, and whether it passed.
  """
  found = {}
  for head_dim in (64, 128):
    found |= attention_errors(head_dim, rows=rows, length=length)
    # Prompts and answers of more than 256 tokens: a GPU's kernel then joins several parts of each.
    found |= decode_errors(head_dim, prompts=rows, length=length, vocab=vocab)
  found |= loss_errors(tokens=rows * length // 2, width=256, vocab=vocab)
  return [
    {"check": name, "error": float(f"{error:.3g}"), "bound": _BOUND, "passed": bool(error < _BOUND)}
    for name, error in found.items()
  ]


def plain_attend(segment_ids: jax.Array | None = None) -> attention.Attend:
  """Returns `attention.causal` as its formula, with a mask of all pairs."""

  def attend(query, key, value, cache):
    del cache
    repeats, length = query.shape[2] // key.shape[2], query.shape[1]
    key, value = (jnp.repeat(x, repeats, axis=2) for x in (key, value))
    scores = jnp.einsum("btnh,bsnh->bnts", query, key) * query.shape[-1] ** -0.5
    allowed = jnp.tril(jnp.ones((length, length), bool))[None]
    if segment_ids is not None:
      allowed &= segment_ids[:, :, None] == segment_ids[:, None, :]
    weights = jax.nn.softmax(jnp.where(allowed[:, None], scores, -jnp.inf), axis=-1)
    return jnp.einsum("bnts,bsnh->btnh", weights, value), None

  return attend


def attention_errors(head_dim: int, *, rows: int, length: int) -> dict[str, float]:
  """Compares causal attention and its gradients, for rows of one segment and of several."""
  random = np.random.default_rng(head_dim)
  query, key, value = (
    jnp.asarray(random.standard_normal((rows, length, heads, head_dim), np.float32), jnp.bfloat16)
    for heads in (4, 2, 2)
  )
  towards = jnp.asarray(random.standard_normal(query.shape, np.float32))
  found = {}
  for name, segments in (("whole rows", None), ("packed rows", jnp.arange(length)[None] * 3 // length)):
    segments = segments if segments is None else jnp.broadcast_to(segments, (rows, length))

    def gradients(attend, *given):
      def loss(*given):
        attended, _ = attend(*given, None)
        return (attended.astype(jnp.float32) * towards).sum(), attended

      (_, attended), gradient = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(*given)
      return attended, gradient

    measured = jax.jit(functools.partial(gradients, attention.causal(segments)))(query, key, value)
    with _exact():
      given = (x.astype(jnp.float32) for x in (query, key, value))
      expected = jax.jit(functools.partial(gradients, plain_attend(segments)))(*given)
    found[f"attention, {name}, heads of {head_dim}"] = _error(measured[0], expected[0])
    found[f"gradient of attention, {name}, heads of {head_dim}"] = _error(measured[1], expected[1])
  return found


def decode_errors(head_dim: int, *, prompts: int, length: int, vocab: int) -> dict[str, float]:
  """Compares the logprobs of drawn answers with those of a forward pass over prompt and answer."""
  model = TransformerConfig(
    vocab_size=vocab,
    num_layers=2,
    embed_dim=4 * head_dim,
    mlp_dim=8 * head_dim,
    num_heads=4,
    num_kv_heads=2,
    head_dim=head_dim,
    tied=True,
    compute_dtype="bfloat16",
    stacked=False,
  )
  work = Work(model, prompts=prompts, group=4, prompt_length=length, new_tokens=length, slots=prompts * 4)
  engine = loaded_engine(work)
  groups = engine.generate(work.draw_prompts(), work.group)
  rows = [[*group.prompt.tokens, *answer.tokens] for group in groups for answer in group.answers]
  drawn = [answer.sampler_logprobs for group in groups for answer in group.answers]
  exact = dataclasses.replace(model, compute_dtype="float32")
  params = jax.tree.map(lambda x: x.astype(jnp.float32), engine.params)
  with _exact():
    expected = jax.jit(functools.partial(_logprobs, exact))(params, jnp.asarray(rows, jnp.int32))
  answers = np.asarray(expected)[:, length - 1 :]
  return {f"logprobs of decoding, heads of {head_dim}": _error(np.stack(drawn), answers)}


def _logprobs(model: TransformerConfig, params: nnx.State, tokens: jax.Array) -> jax.Array:
  """Returns the logprob of each token but the first: [B, T - 1]."""
  transformer: Transformer = nnx.merge(abstract_transformer(model)[0], params)
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  hidden, _ = transformer(tokens, positions, plain_attend())
  logprobs = jax.nn.log_softmax(hidden[:, :-1] @ transformer.unembedding())
  return jnp.take_along_axis(logprobs, tokens[:, 1:, None], axis=-1)[..., 0]


def loss_errors(*, tokens: int, width: int, vocab: int) -> dict[str, float]:
  """Compares logprobs, entropies and the clipped surrogate's loss, each with gradients."""
  random = np.random.default_rng(0)
  hidden = jnp.asarray(random.standard_normal((4, tokens // 4, width), np.float32), jnp.bfloat16)
  unembedding = jnp.asarray(random.standard_normal((width, vocab), np.float32) * width**-0.5, jnp.bfloat16)
  targets = jnp.asarray(random.integers(0, vocab, hidden.shape[:2]))
  advantages = jnp.asarray(random.standard_normal(hidden.shape[:2], np.float32))
  old = jnp.asarray(np.log(1 / vocab) + 0.2 * random.standard_normal(hidden.shape[:2], np.float32))

  def surrogate(logprobs, entropies, data):
    advantage, old = data
    ratio = jnp.exp((logprobs - old) / 8)  # the eighth keeps random logprobs near those of the old policy
    return -jnp.minimum(ratio * advantage, jnp.clip(ratio, 0.8, 1.28) * advantage) - 0.01 * entropies

  def plain(hidden, unembedding):
    logits = hidden @ unembedding
    logprobs = jax.nn.log_softmax(logits)
    entropies = -(jnp.exp(logprobs) * logprobs).sum(-1)
    return jnp.take_along_axis(logprobs, targets[..., None], axis=-1)[..., 0], entropies

  def fused(hidden, unembedding):
    loss, found = summed_token_loss(surrogate, hidden, unembedding, targets, (advantages, old), chunk=256)
    return loss, found

  def chunked(hidden, unembedding):
    found = token_logprobs(hidden, unembedding, targets, chunk=256, entropy=True)
    return surrogate(*found, (advantages, old)).sum(), found

  def exact(hidden, unembedding):
    found = plain(hidden, unembedding)
    return surrogate(*found, (advantages, old)).sum(), found

  def run(function: Callable, *given):
    return jax.jit(jax.value_and_grad(function, argnums=(0, 1), has_aux=True))(*given)

  with _exact():
    (expected, reduced), gradient = run(exact, hidden.astype(jnp.float32), unembedding.astype(jnp.float32))
  found = {}
  for name, function in (("fused loss", fused), ("loss of logprobs", chunked)):
    (measured, numbers), slope = run(function, hidden, unembedding)
    found[name] = _error(measured, expected)
    found[f"logprobs and entropies, {name}"] = _error(numbers, reduced)
    found[f"gradient, {name}"] = _error(slope, gradient)
  return found


def _error(measured: Any, expected: Any) -> float:
  """Returns the relative error of a pytree, NaN if a number is not finite."""
  pairs = list(zip(map(_float64, jax.tree.leaves(measured)), map(_float64, jax.tree.leaves(expected)), strict=True))
  difference = sum(float(np.square(x - y).sum()) for x, y in pairs)
  return float(np.sqrt(difference / sum(float(np.square(y).sum()) for _, y in pairs)))


def _float64(x: jax.Array) -> np.ndarray:
  return np.asarray(x, np.float64)
