"""Decides which tokens attend to which: each function returns an `attend` for `Transformer.__call__`.

`attend(query, key, value, cache) -> (attended, kept)` gets one layer's rotated projections, query [B, T, N, H], key and
value [B, T, K, H] with N a multiple of K, and that layer's cache. It returns the attended values [B, T, N, H] and what
the layer keeps: its new cache, its keys and values, or None. Scores and softmax are float32.

The kernels of the platform (`parallel.mesh.platform`) are used: `splash` on TPU, `flash` on GPU. On CPU, the formulas
below are used. Single tokens attend to cached keys and values by `models.paged_attention`.

B rows, T tokens, N query heads, K key/value heads, R = N / K, H head dimension, P prompts, G answers per prompt,
Tp prompt tokens, Tc answer tokens.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange

from posttrain_jax.models import flash, splash
from posttrain_jax.parallel.mesh import platform

# One layer's keys and values; None: nothing is kept.
Cache = tuple[jax.Array, ...] | None
Attend = Callable[[jax.Array, jax.Array, jax.Array, Cache], tuple[jax.Array, Cache]]

# Finite, so that a row without any allowed key gives the mean of the values and no NaN.
_MASKED = -1e30

_KERNELS = {"tpu": splash, "gpu": flash}


def causal(segment_ids: jax.Array | None = None, *, keep: bool = False) -> Attend:
  """Lets each token attend to itself and to earlier tokens of its segment.

  Args:
    segment_ids: int [B, T] for packed rows; tokens of different segments do not see each other. None: one segment a
      row, which is also right for rows padded on the right, since no token sees a later one.
    keep: also return the layer's keys and values (prefill).

  Returns:
    The `attend`; it keeps (key, value) with `keep`, else None.
  """

  def attend(query, key, value, cache):
    del cache
    kept = (key, value) if keep else None
    if kernels := _KERNELS.get(platform()):
      return kernels.causal(query, key, value, segment_ids), kept
    mask = flash.same_segment(segment_ids)
    return jax.nn.dot_product_attention(query, key, value, mask=mask, is_causal=True), kept

  return attend


def grouped(prefix_lengths: jax.Array, *, prefix_width: int, group_size: int) -> Attend:
  """Lets each of G answers attend to its prompt and to itself.

  A row is a prompt followed by its G answers, which do not see each other. The prompt's keys are computed once and read
  by all its answers. Prompt keys and own keys enter one softmax: joining two attentions by their log-sum-exp has no
  gradient through `return_residual`. The kernels get the prompt's keys repeated for each answer; this is little memory
  compared with the answers' own keys. One mask over the whole row would need less memory, but the host makes its table
  of (T / block)² blocks, which takes minutes for rows of many long answers.

  Args:
    prefix_lengths: int [P], tokens of the prompt that are real; the rest of its `prefix_width` is padding.
    prefix_width: Tp, tokens at the start of each row that are the prompt.
    group_size: G; the other T - Tp tokens are G answers of equal padded length.

  Returns:
    The `attend`; it keeps None.
  """

  def attend(query, key, value, cache):
    del cache
    kv_heads, scale = key.shape[2], query.shape[-1] ** -0.5
    answer_length = (query.shape[1] - prefix_width) // group_size
    prompt = query[:, :0]
    if prefix_width:
      prompt, _ = causal()(query[:, :prefix_width], key[:, :prefix_width], value[:, :prefix_width], None)
    if kernels := _KERNELS.get(platform()):
      own = [rearrange(x[:, prefix_width:], "p (g t) n h -> (p g) t n h", g=group_size) for x in (query, key, value)]
      prefix = [jnp.repeat(x, group_size, axis=0) for x in (key[:, :prefix_width], value[:, :prefix_width])]
      attended = kernels.after_prefix(*own, *prefix, jnp.repeat(prefix_lengths, group_size))
      attended = rearrange(attended, "(p g) t n h -> p (g t) n h", g=group_size)
      return jnp.concatenate([prompt, attended], axis=1), None
    query_answers = query[:, prefix_width:] * scale
    query_answers = rearrange(query_answers, "p (g t) (k r) h -> p g k (r t) h", g=group_size, k=kv_heads)
    key_answers = rearrange(key[:, prefix_width:], "p (g t) k h -> p g k t h", g=group_size)
    value_answers = rearrange(value[:, prefix_width:], "p (g t) k h -> p g k t h", g=group_size)
    key_prompt = rearrange(key[:, :prefix_width], "p s k h -> p k s h")
    value_prompt = rearrange(value[:, :prefix_width], "p s k h -> p k s h")

    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    to_prompt = product("pgkth,pksh->pgkts", query_answers, key_prompt)
    seen = jnp.arange(prefix_width)[None, :] < prefix_lengths[:, None]  # [P, Tp]
    to_prompt = jnp.where(seen[:, None, None, None, :], to_prompt, _MASKED)
    to_self = product("pgkth,pgksh->pgkts", query_answers, key_answers)
    earlier = jnp.tile(jnp.tril(jnp.ones((answer_length, answer_length), bool)), (query.shape[2] // kv_heads, 1))
    to_self = jnp.where(earlier[None, None, None], to_self, _MASKED)

    # One softmax over both, divided after the products: no array of the scores' size is concatenated or sliced.
    largest = to_self.max(-1, keepdims=True)
    if prefix_width:
      largest = jnp.maximum(largest, to_prompt.max(-1, keepdims=True))
    largest = jax.lax.stop_gradient(largest)
    to_prompt, to_self = jnp.exp(to_prompt - largest), jnp.exp(to_self - largest)
    total = to_prompt.sum(-1, keepdims=True) + to_self.sum(-1, keepdims=True)
    attended = product("pgkts,pksh->pgkth", to_prompt.astype(value.dtype), value_prompt)
    attended += product("pgkts,pgksh->pgkth", to_self.astype(value.dtype), value_answers)
    attended = rearrange((attended / total).astype(value.dtype), "p g k (r t) h -> p (g t) (k r) h", t=answer_length)
    return jnp.concatenate([prompt, attended], axis=1), None

  return attend
