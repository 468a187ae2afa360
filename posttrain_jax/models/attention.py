"""Decides which tokens attend to which: each function returns an `attend` for `Transformer.__call__`.

`attend(query, key, value, cache) -> (attended, kept)` gets one layer's rotated projections, query [B, T, N, H], key and
value [B, T, K, H] with N a multiple of K, and that layer's cache. It returns the attended values [B, T, N, H] and what
the layer keeps: its new cache, its keys and values, or None. Scores and softmax are float32.

Rows of many tokens use the kernels of the platform (`parallel.mesh.platform`): `splash` on TPU, `flash` on GPU. On CPU,
and for single tokens, the formulas below are used.

B rows, T tokens, N query heads, K key/value heads, R = N / K, H head dimension, P prompts, G answers per prompt,
Tp prompt tokens, Tc answer tokens, S slots, L cache length, Lp that of prompts.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange

from posttrain_jax.models import flash, splash
from posttrain_jax.parallel.mesh import platform
from posttrain_jax.parallel.sharding import ways

# One layer's keys and values, in decoding followed by those of the prompts; None: nothing is kept.
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


def cache_layout(key: jax.Array, value: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Reorders keys and values [B, T, K, H] for a cache: [B, K, T, H].

  The products of decoding read the cache in this order, and a token's H numbers are contiguous. In any other order the
  backend copies the whole cache at every step: a CPU for the products, a TPU for the write.
  """
  return rearrange(key, "b t k h -> b k t h"), rearrange(value, "b t k h -> b k t h")


@dataclasses.dataclass(frozen=True)
class Prefixes:
  """Holds the prompt that each of S rows continues, for prompts shared by answers.

  The keys and values of a prompt are in one of P rows. Up to A answers read that row together, and each of them has one
  of the row's A lanes. So a step reads each prompt from memory once, in products of A · R rows, whatever the number of
  its answers.

  Attributes:
    lengths: int [S], tokens of the prompt.
    lanes: int [S], A · (row of the prompt) + lane, all different; P · A or more for rows that are not in use. If S and
      P are split over devices, the number counts from the device's own first row, as a device reads its own rows only.
    share: A, lanes of a row.
  """

  lengths: jax.Array
  lanes: jax.Array
  share: int


def cached(positions: jax.Array, prefixes: Prefixes) -> Attend:
  """Lets one new token a row (T = 1) attend to prompt and cache.

  The cache has four arrays in `cache_layout`. The first two are keys and values [S, K, L, H]: row s holds the tokens
  after its prompt, 0 .. positions[s], of which the last is the new one and is written first. The other two are keys
  and values [P, K, Lp, H] of prompts, which are only read.

  Args:
    positions: int [S], position of the new token, counted from the end of the prompt; below L.
    prefixes: the prompt of each row.

  Returns:
    The `attend`; it keeps the new cache.
  """

  def attend(query, key, value, cache):
    keys, values = (_write(kept, new[:, 0].astype(kept.dtype), positions) for kept, new in zip(cache, (key, value)))
    query_grouped = rearrange(query[:, 0], "s (k r) h -> s k r h", k=key.shape[2])
    seen = jnp.arange(keys.shape[2])[None, :] <= positions[:, None]  # [S, L]
    attended, total, largest = _unfinished(query_grouped, keys, values, seen[:, None, None, :])
    to_prompt, of_prompt, largest_of_prompt = _of_prefixes(query_grouped, *cache[2:], prefixes)
    both = jnp.maximum(largest, largest_of_prompt)
    own, theirs = jnp.exp(largest - both), jnp.exp(largest_of_prompt - both)
    attended, total = attended * own + to_prompt * theirs, total * own + of_prompt * theirs
    return rearrange((attended / total).astype(values.dtype), "s k r h -> s 1 (k r) h"), (keys, values, *cache[2:])

  return attend


def _write(cache: jax.Array, new: jax.Array, positions: jax.Array) -> jax.Array:
  """Writes one token's keys or values into each row of a cache.

  Rows are a batch axis of the scatter, so each device writes its own rows. With row indices, devices would exchange
  what they write. Heads are indices. If they were a batch axis or a part of what is written, a TPU would copy the cache
  whenever a device has several heads.

  Args:
    cache: [S, K, L, H].
    new: [S, K, H].
    positions: int [S].
  """
  heads = jnp.arange(new.shape[1])

  def write(cache, new, position):
    place = cache.at[heads, position]
    return place.set(new, mode="promise_in_bounds", unique_indices=True, indices_are_sorted=True)

  return jax.vmap(write)(cache, new, positions)


def _unfinished(query: jax.Array, keys: jax.Array, values: jax.Array, seen: jax.Array) -> tuple[jax.Array, ...]:
  """Computes attention up to the division.

  Returns:
    The weighted values [B, K, M, H], the sum of the weights and the largest score, both [B, K, M, 1].
  """
  scores = jnp.einsum("bkmh,bklh->bkml", query, keys, preferred_element_type=jnp.float32)
  scores = jnp.where(seen, scores * query.shape[-1] ** -0.5, _MASKED)
  largest = scores.max(-1, keepdims=True)
  weights = jnp.exp(scores - largest)
  attended = jnp.einsum("bkml,bklh->bkmh", weights.astype(values.dtype), values, preferred_element_type=jnp.float32)
  return attended, weights.sum(-1, keepdims=True), largest


def _of_prefixes(query: jax.Array, keys: jax.Array, values: jax.Array, prefixes: Prefixes) -> tuple[jax.Array, ...]:
  """Computes `_unfinished` of queries [S, K, R, H] to their prompts' keys and values.

  Returns:
    As `_unfinished`, in the order of the queries: [S, K, R, H] and twice [S, K, R, 1].
  """
  shards, share = ways("batch"), prefixes.share
  lanes = prefixes.lanes.reshape(shards, -1)
  count = keys.shape[0] // shards * share  # lanes of a device

  def to_lanes(x):
    spread = lambda x, lanes: jnp.zeros((count, *x.shape[1:]), x.dtype).at[lanes].set(x, mode="drop")  # noqa: E731
    x = jax.vmap(spread)(x.reshape(shards, -1, *x.shape[1:]), lanes)
    return x.reshape(-1, share, *x.shape[2:])  # [P, A, ...]

  def to_rows(x):
    pick = lambda x, lanes: x.at[lanes].get(mode="clip")  # noqa: E731
    x = jax.vmap(pick)(x.reshape(shards, count, *x.shape[2:]), lanes)
    return x.reshape(-1, *x.shape[2:])

  seen = jnp.arange(keys.shape[2])[None, None, :] < to_lanes(prefixes.lengths)[:, :, None]  # [P, A, Lp]
  seen = jnp.repeat(seen, query.shape[2], axis=1)[:, None]
  together = rearrange(to_lanes(query), "p a k r h -> p k (a r) h")
  found = _unfinished(together, keys, values, seen)
  return tuple(to_rows(rearrange(x, "p k (a r) h -> p a k r h", a=share)) for x in found)
