"""Says which tokens of a packed row attend to which, and in which tiles.

The keys that a tile of queries needs lie in two ranges of tiles. One ends at the tile itself. The other lies behind it
and has the prompts.

R rows, N tokens, b tokens of a tile, n tiles of all rows, C pairs at most.
"""

import dataclasses

import jax
import jax.numpy as jnp
from einops import rearrange

_NO_TILE = -1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Spans:
  """Describes which tokens of its row each token attends to.

  Token q attends to key k if own[q] <= k <= q, or if k > q and prefix_start[q] <= k < prefix_end[q].

  Attributes:
    own: int32 [R, N], index of the first token of its own answer, prompt or text. N where there is no token: such a
      place attends to nothing and gets zeros.
    prefix_start: int32 [R, N], index of the first token of its prompt, which lies behind it in the row.
    prefix_end: int32 [R, N], index after the prompt's last token; not above `prefix_start` for an empty prompt.
  """

  own: jax.Array
  prefix_start: jax.Array
  prefix_end: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TilePlan:
  """Holds the pairs of tiles that are computed; every array is int32 [n].

  Attributes:
    order: tiles of queries, those with the most tiles of keys first.
    counts: tiles of keys of each tile of queries, in that order; it falls.
    first: first tile of keys of the range that ends at the tile of queries itself.
    length: tiles in that range.
    prefix: first tile of the range behind.
  """

  order: jax.Array
  counts: jax.Array
  first: jax.Array
  length: jax.Array
  prefix: jax.Array

  def tile_of_keys(self, at: jax.Array, rank: jax.Array) -> jax.Array:
    """Returns the tiles of keys at a place among those of tiles of queries."""
    behind = self.prefix[at] + rank - self.length[at]
    return jnp.where(rank < self.length[at], self.first[at] + rank, behind)


def plan_tiles(spans: Spans, tile: int) -> TilePlan:
  """Lists the pairs of tiles whose tokens see each other, and few others.

  Args:
    spans: of R rows whose length is a multiple of `tile`.
    tile: b.
  """
  cut = lambda x: rearrange(x, "r (i b) -> r i b", b=tile)  # noqa: E731
  own, start, end = (cut(x) for x in (spans.own, spans.prefix_start, spans.prefix_end))
  rows, tiles = own.shape[:2]
  at = jnp.arange(tiles, dtype=jnp.int32)[None]
  base = jnp.arange(rows, dtype=jnp.int32)[:, None] * tiles
  length = spans.own.shape[1]
  first = jnp.minimum(own.min(-1) // tile, at + 1)  # own is N in a tile without a token: no tile of keys
  reached = end > start
  behind = jnp.where(reached, start, length).min(-1) // tile
  behind = jnp.maximum(behind, at + 1)  # the tile itself is in the first range
  until = -(-jnp.where(reached, end, 0).max(-1) // tile)
  own_length = at + 1 - first
  counts = own_length + jnp.maximum(until - behind, 0)
  flat = lambda x: x.reshape(-1)  # noqa: E731
  order = jnp.argsort(-flat(counts)).astype(jnp.int32)
  return TilePlan(
    order=order,
    counts=flat(counts)[order],
    first=flat(first + base),
    length=flat(own_length),
    prefix=flat(behind + base),
  )


def list_pairs(plan: TilePlan, tiles: int) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Lists pairs of tiles, sorted by tiles of queries.

  A tile without a token is paired with itself, so that every tile is in the list.

  Args:
    plan: of n tiles.
    tiles: of a row.

  Returns:
    (tiles of queries int32 [C + 1], -1 behind the last pair; tiles of keys int32 [C + 1]; number of pairs int32 []).
  """
  number = plan.order.shape[0]
  counts = jnp.zeros_like(plan.counts).at[plan.order].set(plan.counts)
  until = jnp.cumsum(jnp.maximum(counts, 1))
  pair = jnp.arange(number * tiles + 1, dtype=jnp.int32)
  query = jnp.searchsorted(until, pair, side="right").astype(jnp.int32)
  at = jnp.minimum(query, number - 1)
  rank = pair - (until - jnp.maximum(counts, 1))[at]
  key = jnp.where(counts[at] == 0, at, plan.tile_of_keys(at, rank))
  return jnp.where(pair < until[-1], query, _NO_TILE), jnp.where(pair < until[-1], key, number), until[-1]
