"""Computes attention by a list of tile pairs on TPU, in Pallas kernels.

It is `models.tiles` with scores that stay in the chip's vector memory. The list of pairs is in scalar memory, where it
tells which tiles to copy next. The grid's length is that of the list, known when the program runs. The pairs of a tile
of queries stand together, so its output is written once; for the gradients of keys and values they are sorted by tiles
of keys.

n tiles of all rows, b tokens of a tile, K key/value heads, G query heads to each, H head dimension, C pairs at most.
"""

import functools

import jax
import jax.numpy as jnp
from einops import rearrange
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from posttrain_jax.models.splash import ATTENDED
from posttrain_jax.models.tile_plan import Spans, TilePlan, list_pairs

_MASKED = -1e30


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def attend_tiles(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  spans: Spans,
  plan: TilePlan,
  tile: int,
  interpret: bool = False,
) -> jax.Array:
  """Computes attention over packed rows.

  Args:
    query: [R, N, A, H], N a multiple of b.
    key: [R, N, K, H] with A a multiple of K.
    value: [R, N, K, H].
    spans: what each token attends to.
    plan: the pairs of tiles (`tile_plan.plan_tiles`).
    tile: b.
    interpret: interprets the kernels step by step, slowly, on any platform (tests).

  Returns:
    [R, N, A, H], zeros where a token attends to nothing.
  """
  return _forward(query, key, value, spans, plan, tile, interpret)[0]


def _starts(of, pair):
  return (pair == 0) | (of[jnp.maximum(pair - 1, 0)] != of[pair])


def _ends(of, pair):
  return of[pair + 1] != of[pair]


def _seen(own, start, end, query_tile, key_tile, tiles, *, keys_axis):
  """Returns the allowed pairs, bool [b, b].

  The spans vary along the other axis than the keys.
  """
  tile = max(own.shape)
  shape = (tile, tile)
  query = (query_tile % tiles) * tile + jax.lax.broadcasted_iota(jnp.int32, shape, 1 - keys_axis)
  key = (key_tile % tiles) * tile + jax.lax.broadcasted_iota(jnp.int32, shape, keys_axis)
  return ((key <= query) & (key >= own)) | ((key > query) & (key >= start) & (key < end))


def _dot(a, b, contract):
  return jax.lax.dot_general(a, b, (contract, ((), ())), preferred_element_type=jnp.float32)


def _forward_kernel(queries, keys, own, start, end, q, k, v, attended, normalizer, found, total, largest, *, tiles):
  pair = pl.program_id(1)

  @pl.when(_starts(queries, pair))
  def _():
    found[...] = jnp.zeros_like(found)
    total[...] = jnp.zeros_like(total)
    largest[...] = jnp.full_like(largest, _MASKED)

  seen = _seen(own[0], start[0], end[0], queries[pair], keys[pair], tiles, keys_axis=1)
  for g in range(q.shape[2]):
    scores = _dot(q[0, 0, g], k[0, 0], ((1,), (1,))) * q.shape[-1] ** -0.5
    scores = jnp.where(seen, scores, _MASKED)
    now = jnp.maximum(largest[g], scores.max(-1, keepdims=True))
    weights = jnp.where(seen, jnp.exp(scores - now), 0.0)
    kept = jnp.exp(largest[g] - now)
    total[g] = total[g] * kept + weights.sum(-1, keepdims=True)
    found[g] = found[g] * kept + _dot(weights.astype(v.dtype), v[0, 0], ((1,), (0,)))
    largest[g] = now

  @pl.when(_ends(queries, pair))
  def _():
    some = jnp.where(total[...] > 0, total[...], 1.0)
    attended[0, 0] = (found[...] / some).astype(attended.dtype)
    normalizer[0, 0] = jnp.where(total[...] > 0, largest[...] + jnp.log(some), 0.0)


def _query_kernel(queries, keys, own, start, end, q, k, v, given, normalizer, along, to_query, found, *, tiles):
  pair = pl.program_id(1)

  @pl.when(_starts(queries, pair))
  def _():
    found[...] = jnp.zeros_like(found)

  seen = _seen(own[0], start[0], end[0], queries[pair], keys[pair], tiles, keys_axis=1)
  scale = q.shape[-1] ** -0.5
  for g in range(q.shape[2]):
    scores = _dot(q[0, 0, g], k[0, 0], ((1,), (1,))) * scale
    weights = jnp.where(seen, jnp.exp(scores - normalizer[0, 0, g]), 0.0)
    to_weights = _dot(given[0, 0, g], v[0, 0], ((1,), (1,)))
    to_scores = weights * (to_weights - along[0, 0, g]) * scale
    found[g] += _dot(to_scores.astype(k.dtype), k[0, 0], ((1,), (0,)))

  @pl.when(_ends(queries, pair))
  def _():
    to_query[0, 0] = found[...].astype(to_query.dtype)


def _key_kernel(
  queries, keys, own, start, end, q, k, v, given, normalizer, along, to_key, to_value, of_key, of_value, *, tiles
):
  pair = pl.program_id(1)

  @pl.when(_starts(keys, pair))
  def _():
    of_key[...] = jnp.zeros_like(of_key)
    of_value[...] = jnp.zeros_like(of_value)

  # Keys are along the first axis, so that no array is transposed.
  seen = _seen(own[0], start[0], end[0], queries[pair], keys[pair], tiles, keys_axis=0)
  scale = q.shape[-1] ** -0.5
  for g in range(q.shape[2]):
    scores = _dot(k[0, 0], q[0, 0, g], ((1,), (1,))) * scale
    weights = jnp.where(seen, jnp.exp(scores - normalizer[0, 0, g]), 0.0)
    to_weights = _dot(v[0, 0], given[0, 0, g], ((1,), (1,)))
    to_scores = weights * (to_weights - along[0, 0, g]) * scale
    of_value[...] += _dot(weights.astype(given.dtype), given[0, 0, g], ((1,), (0,)))
    of_key[...] += _dot(to_scores.astype(q.dtype), q[0, 0, g], ((1,), (0,)))

  @pl.when(_ends(keys, pair))
  def _():
    to_key[0, 0] = of_key[...].astype(to_key.dtype)
    to_value[0, 0] = of_value[...].astype(to_value.dtype)


def _call(kernel, pairs, inputs, outputs, scratch, *, name: str, tiles: int, interpret: bool):
  """Runs a kernel over heads and pairs.

  Args:
    kernel: takes the pairs, then blocks of inputs and outputs, then scratch.
    pairs: tiles of queries and of keys, and their number.
    inputs: pairs of an array and the list that selects its first axis: 0 of queries, 1 of keys. Its second axis is that
      of heads, or has length 1.
    outputs: the same with abstract arrays.
    scratch: shapes of float32 arrays in vector memory.
    name: of the kernel.
    tiles: of a row.
    interpret: as in `attend_tiles`.
  """
  queries, keys, number = pairs

  def block(shape, which):
    heads = shape[1] > 1
    return pl.BlockSpec(
      (1, 1, *shape[2:]) if len(shape) > 3 else (1, *shape[1:]),
      lambda h, p, *lists: (
        (lists[which][p], h if heads else 0, *(0,) * (len(shape) - 2))
        if len(shape) > 3
        else (lists[which][p], *(0,) * (len(shape) - 1))
      ),
    )

  found = pl.pallas_call(
    functools.partial(kernel, tiles=tiles),
    grid_spec=pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=2,
      in_specs=[block(x.shape, which) for x, which in inputs],
      out_specs=[block(x.shape, which) for x, which in outputs],
      grid=(next(x.shape[1] for x, _ in inputs if x.ndim > 3), number),
      scratch_shapes=[pltpu.VMEM(shape, jnp.float32) for shape in scratch],
    ),
    out_shape=[x for x, _ in outputs],
    compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
    name=name,
    interpret=interpret,
  )
  return found(queries, keys, *(x for x, _ in inputs))


def _cut(query, key, value, spans, tile):
  """Cuts arrays into tiles.

  Returns:
    Queries [n, K, G, b, H], keys and values [n, K, b, H], three spans [n, b, 1].
  """
  of_keys = lambda x: rearrange(x, "r (i b) k h -> (r i) k b h", b=tile)  # noqa: E731
  of_spans = [x.reshape(-1, tile, 1) for x in (spans.own, spans.prefix_start, spans.prefix_end)]
  return _queries(query, key.shape[2], tile), of_keys(key), of_keys(value), of_spans


def _queries(x, kv_heads, tile):
  return rearrange(x, "r (i b) (k g) h -> (r i) k g b h", b=tile, k=kv_heads)


def _rows(x, rows):
  return rearrange(x, "(r i) k g b h -> r (i b) (k g) h", r=rows)


def _forward(query, key, value, spans, plan, tile, interpret):
  q, k, v, of_spans = _cut(query, key, value, spans, tile)
  tiles = query.shape[1] // tile
  pairs = list_pairs(plan, tiles)
  sums = jax.ShapeDtypeStruct((*q.shape[:4], 1), jnp.float32)
  attended, normalizer = _call(
    _forward_kernel,
    pairs,
    [*((x, 0) for x in of_spans), (q, 0), (k, 1), (v, 1)],
    [(jax.ShapeDtypeStruct(q.shape, q.dtype), 0), (sums, 0)],
    [q.shape[2:], sums.shape[2:], sums.shape[2:]],
    name="tiles_forward",
    tiles=tiles,
    interpret=interpret,
  )
  attended = checkpoint_name(_rows(attended, query.shape[0]), ATTENDED)
  normalizer = checkpoint_name(normalizer[..., 0], ATTENDED)
  return attended, (query, key, value, spans, plan, attended, normalizer)


def _backward(tile, interpret, kept, to_attended):
  query, key, value, spans, plan, attended, normalizer = kept
  q, k, v, of_spans = _cut(query, key, value, spans, tile)
  tiles = query.shape[1] // tile
  queries, keys, number = list_pairs(plan, tiles)
  given = _queries(to_attended, key.shape[2], tile)
  along = (to_attended.astype(jnp.float32) * attended.astype(jnp.float32)).sum(-1, keepdims=True)
  along = _queries(along, key.shape[2], tile)
  (to_query,) = _call(
    _query_kernel,
    (queries, keys, number),
    [*((x, 0) for x in of_spans), (q, 0), (k, 1), (v, 1), (given, 0), (normalizer[..., None], 0), (along, 0)],
    [(jax.ShapeDtypeStruct(q.shape, q.dtype), 0)],
    [q.shape[2:]],
    name="tiles_queries",
    tiles=tiles,
    interpret=interpret,
  )
  by_key = jnp.argsort(keys, stable=True)
  lying = [x.reshape(-1, 1, tile) for x in of_spans]
  to_key, to_value = _call(
    _key_kernel,
    (queries[by_key], keys[by_key], number),
    [
      *((x, 0) for x in lying),
      (q, 0),
      (k, 1),
      (v, 1),
      (given, 0),
      (normalizer[..., None, :], 0),
      (jnp.swapaxes(along, -1, -2), 0),
    ],
    [(jax.ShapeDtypeStruct(x.shape, x.dtype), 1) for x in (k, v)],
    [k.shape[2:], v.shape[2:]],
    name="tiles_keys",
    tiles=tiles,
    interpret=interpret,
  )
  to_key, to_value = (rearrange(x, "(r i) k b h -> r (i b) k h", r=key.shape[0]) for x in (to_key, to_value))
  return _rows(to_query, query.shape[0]), to_key, to_value, None, None


attend_tiles.defvjp(_forward, _backward)
