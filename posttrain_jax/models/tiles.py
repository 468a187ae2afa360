"""Computes attention by a list of pairs of tiles, and its gradient by the same list.

The scores of packed rows (`models.packed_attention`) are mostly empty: a token attends to its own answer and to its
prompt. Each row is cut into tiles of b tokens. The keys that a tile of queries needs lie in two ranges of tiles: one
that ends at the tile itself, and one further behind that has the prompts. Only these pairs of tiles are computed, by a
loop whose length is known when the program runs. So the cost follows the tokens, and no array has the size of a row
squared.

A pass of the loop takes the j-th tile of keys of several tiles of queries, as one batched product. Its softmax is that
of FlashAttention (2205.14135): the largest score and the sum so far are kept and corrected. The backward pass makes
the scores again from the log-sum-exp (2307.08691).

R rows, N tokens, A query heads, K key/value heads, H head dimension, b tokens of a tile, n tiles of all rows.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from jax.ad_checkpoint import checkpoint_name

from posttrain_jax.models.splash import ATTENDED
from posttrain_jax.models.tile_plan import Spans, TilePlan

_MASKED = -1e30  # finite, so that differences of it are no NaN


@dataclasses.dataclass(frozen=True)
class Tiling:
  """Describes how the loop works; numbers differ by rounding only.

  Attributes:
    tile: b, tokens of a tile.
    together: tiles of queries that one pass of the loop takes.
  """

  tile: int
  together: int


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def attend_tiles(
  query: jax.Array, key: jax.Array, value: jax.Array, spans: Spans, plan: TilePlan, tiling: Tiling
) -> jax.Array:
  """Computes attention over packed rows.

  softmax(q · k / √H) over the keys that `spans` allows, times the values. Scores and sums are at least float32.

  Args:
    query: [R, N, A, H], N a multiple of b.
    key: [R, N, K, H] with A a multiple of K.
    value: [R, N, K, H].
    spans: what each token attends to.
    plan: the pairs of tiles (`tile_plan.plan_tiles`).
    tiling: how the loop works.

  Returns:
    [R, N, A, H], zeros where a token attends to nothing.
  """
  return _forward(query, key, value, spans, plan, tiling)[0]


def _forward(query, key, value, spans, plan, tiling):
  tile, kv_heads = tiling.tile, key.shape[2]
  q, (k, v) = _query_tiles(query, kv_heads, tile), (_key_tiles(x, tile) for x in (key, value))
  number, dtype = q.shape[0], jnp.promote_types(query.dtype, jnp.float32)
  allowed = _allowed(spans, tile)
  product = functools.partial(jnp.einsum, preferred_element_type=dtype)

  def step(at, of_keys, into, carry):
    found, total, largest = carry
    scores = jnp.where(allowed(at, of_keys), product("ckgmh,cknh->ckgmn", q[at], k[of_keys]) * _scale(q), _MASKED)
    before = largest[into]
    now = jnp.maximum(before, scores.max(-1))
    # In a row without an allowed key so far both are -1e30: its weights are 0, not exp(0).
    weights = jnp.where(scores > _MASKED / 2, jnp.exp(scores - now[..., None]), 0)
    kept = jnp.exp(before - now)
    more = product("ckgmn,cknh->ckgmh", weights.astype(value.dtype), v[of_keys])
    return (
      found.at[into].set(found[into] * kept[..., None] + more),
      total.at[into].set(total[into] * kept + weights.sum(-1)),
      largest.at[into].set(now),
    )

  shape = (number + 1, *q.shape[1:4])  # the last tile is where surplus lanes write
  start = (
    jnp.zeros((*shape, q.shape[4]), dtype),
    jnp.zeros(shape, dtype),
    jnp.full(shape, _MASKED, dtype),
  )
  found, total, largest = (x[:number] for x in _loop(plan, tiling, step, start))
  seen = total > 0
  attended = (found / jnp.where(seen, total, 1)[..., None]).astype(query.dtype)
  normalizer = jnp.where(seen, largest + jnp.log(jnp.where(seen, total, 1)), 0)
  attended = checkpoint_name(_rows(attended, query.shape), ATTENDED)
  normalizer = checkpoint_name(normalizer, ATTENDED)
  return attended, (query, key, value, spans, plan, attended, normalizer)


def _backward(tiling, kept, to_attended):
  query, key, value, spans, plan, attended, normalizer = kept
  tile, kv_heads = tiling.tile, key.shape[2]
  q, (k, v) = _query_tiles(query, kv_heads, tile), (_key_tiles(x, tile) for x in (key, value))
  number, dtype = q.shape[0], jnp.promote_types(query.dtype, jnp.float32)
  along = (to_attended.astype(dtype) * attended.astype(dtype)).sum(-1, keepdims=True)  # Σ_h dO O
  along = _query_tiles(along, kv_heads, tile)
  to_found = _query_tiles(to_attended, kv_heads, tile)
  allowed = _allowed(spans, tile)
  product = functools.partial(jnp.einsum, preferred_element_type=dtype)

  def step(at, of_keys, into, carry):
    to_query, to_key, to_value = carry
    queries, keys, given = q[at], k[of_keys], to_found[at]
    scores = product("ckgmh,cknh->ckgmn", queries, keys) * _scale(q)
    real = (into < number).reshape(-1, *(1,) * (scores.ndim - 1))
    weights = jnp.where(allowed(at, of_keys) & real, jnp.exp(scores - normalizer[at][..., None]), 0)
    to_weights = product("ckgmh,cknh->ckgmn", given, v[of_keys])
    to_scores = (weights * (to_weights - along[at]) * _scale(q)).astype(query.dtype)
    weights = weights.astype(value.dtype)
    more = product("ckgmn,cknh->ckgmh", to_scores, keys)
    return (
      to_query.at[into].add(more),
      to_key.at[of_keys].add(product("ckgmn,ckgmh->cknh", to_scores, queries)),
      to_value.at[of_keys].add(product("ckgmn,ckgmh->cknh", weights, given)),
    )

  zeros = lambda x, extra=0: jnp.zeros((number + extra, *x.shape[1:]), dtype)  # noqa: E731
  to_query, to_key, to_value = _loop(plan, tiling, step, (zeros(q, 1), zeros(k), zeros(v)))
  to_key, to_value = (
    rearrange(x, "(r i) k b h -> r (i b) k h", r=key.shape[0]).astype(key.dtype) for x in (to_key, to_value)
  )
  return _rows(to_query[:number].astype(query.dtype), query.shape), to_key, to_value, None, None


attend_tiles.defvjp(_forward, _backward)


def _loop(plan: TilePlan, tiling: Tiling, step: Callable[..., Any], carry: Any) -> Any:
  """Runs `step` over all pairs of tiles.

  `step` gets indices [C] of tiles of queries, of tiles of keys, and where to write; and the carry. In a pass the tiles
  of queries differ from each other. Lanes without work read some tile and write behind the last one.
  """
  number = plan.order.shape[0]
  lanes = min(tiling.together, number)
  order = jnp.pad(plan.order, (0, -number % lanes))

  def of_rank(rank, carry):
    busy = (plan.counts > rank).sum(dtype=jnp.int32)

    def of_block(block, carry):
      at = jax.lax.dynamic_slice(order, (block * lanes,), (lanes,))
      works = block * lanes + jnp.arange(lanes, dtype=jnp.int32) < busy
      of_keys = jnp.where(works, plan.tile_of_keys(at, rank), at)
      return step(at, of_keys, jnp.where(works, at, number), carry)

    return jax.lax.fori_loop(0, -(-busy // lanes), of_block, carry)

  return jax.lax.fori_loop(0, plan.counts[0], of_rank, carry)


def _allowed(spans: Spans, tile: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """Returns the function from pairs of tiles [C] to their allowed pairs of tokens.

  These are bool [C, 1, 1, b, b].
  """
  tiles = spans.own.shape[1] // tile
  cut = lambda x: x.reshape(-1, tile)  # noqa: E731
  own, start, end = (cut(x) for x in (spans.own, spans.prefix_start, spans.prefix_end))
  inside = jnp.arange(tile, dtype=jnp.int32)

  def allowed(at, of_keys):
    query = ((at % tiles) * tile)[:, None, None] + inside[None, :, None]
    key = ((of_keys % tiles) * tile)[:, None, None] + inside[None, None, :]
    in_own = (key <= query) & (key >= own[at][:, :, None])
    in_prefix = (key > query) & (key >= start[at][:, :, None]) & (key < end[at][:, :, None])
    return (in_own | in_prefix)[:, None, None]

  return allowed


def _query_tiles(x: jax.Array, kv_heads: int, tile: int) -> jax.Array:
  """Cuts [R, N, A, H] into tiles [n, K, A / K, b, H]."""
  return rearrange(x, "r (i b) (k g) h -> (r i) k g b h", b=tile, k=kv_heads)


def _key_tiles(x: jax.Array, tile: int) -> jax.Array:
  """Cuts [R, N, K, H] into tiles [n, K, b, H]."""
  return rearrange(x, "r (i b) k h -> (r i) k b h", b=tile)


def _rows(tiles: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Joins tiles [n, K, A / K, b, H] to [R, N, A, H]."""
  return rearrange(tiles, "(r i) k g b h -> r (i b) (k g) h", r=shape[0])


def _scale(query_tiles: jax.Array) -> float:
  return query_tiles.shape[-1] ** -0.5
