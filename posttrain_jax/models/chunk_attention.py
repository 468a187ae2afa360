"""Attends from chunks of sequences to themselves and to what lies before them in pages.

A sequence is cut into chunks of a fixed number of tokens, from its own start. A row is one chunk. It writes its keys
and values to pages first, so a row may attend to rows of the same call that come before it in its sequence.

The bits of a row do not depend on other rows, on the row's place, or on the call that ran the chunks before it: each
earlier chunk is one product of a fixed shape, and they are joined one after the other in the order of the text. The
loop over earlier chunks is as long as there are any, so a short sequence does not pay for the longest one.

D devices that the rows are split over, W rows of each, C tokens of a chunk, c pages that hold them, L length of a list,
n pages of each device, K key/value heads, R query heads for each of them, H head dimension, M = C · R.
"""

import dataclasses

import jax
import jax.numpy as jnp
from einops import rearrange

from posttrain_jax.models.attention import Attend
from posttrain_jax.models.page_kernels import MASKED
from posttrain_jax.models.paged_attention import Unfinished, apart, nothing, stored
from posttrain_jax.parallel.sharding import LEARNER_RULES, partition_spec


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Chunks:
  """Describes the rows of a call.

  Numbers of rows and pages count on their device.

  Attributes:
    tokens: int32 [D · W, C], each row's tokens, padded on the right.
    counts: int32 [D · W], tokens that are real; 0 in an empty row.
    starts: int32 [D · W], position of the first token in prompt and answer.
    written: int32 [D · W, c], pages to write; those out of range are not written.
    owners: int32 [D · L], row that attends to an earlier chunk; a row's chunks are listed in the order of the text.
    earlier: int32 [D · L, c], pages of that chunk; any page after its last token.
    seen: int32 [D · L], tokens of that chunk.
    count: int32 [D], entries of the list that are real.
  """

  tokens: jax.Array
  counts: jax.Array
  starts: jax.Array
  written: jax.Array
  owners: jax.Array
  earlier: jax.Array
  seen: jax.Array
  count: jax.Array


def chunked(chunks: Chunks) -> Attend:
  """Lets each token attend to itself, to earlier tokens of its chunk and to earlier chunks.

  The cache has one array or two, with D · n pages. The rows' own keys and values are written first. A page is written
  whole, with zeros after the last real token, so nothing of its earlier owner is left in it.

  Args:
    chunks: the rows.

  Returns:
    The `attend`; it keeps the new cache.
  """

  def attend(query, key, value, cache):
    on_a_device, mesh = _on_a_device, jax.sharding.get_abstract_mesh()
    if not mesh.empty and mesh.size > 1:
      axes = ("batch",), ("batch", "length", "heads"), ("batch", "heads")
      rows, heads, pages = (partition_spec(each, LEARNER_RULES) for each in axes)
      on_a_device = jax.shard_map(
        on_a_device,
        in_specs=(heads, heads, heads, pages, rows),
        out_specs=(heads, pages),
        check_vma=False,  # each device runs its own number of steps in the loop over earlier chunks
      )
    return on_a_device(query, key, value, cache, chunks)

  return attend


def _on_a_device(query, key, value, cache, chunks: Chunks) -> tuple[jax.Array, tuple[jax.Array, ...]]:
  (length, heads), dtype = key.shape[1:3], cache[0].dtype
  real = jnp.arange(length)[None] < chunks.counts[:, None]
  key, value = (jnp.where(real[..., None, None], x, 0).astype(dtype) for x in (key, value))
  cache = tuple(_write(kept, new, chunks.written) for kept, new in zip(cache, stored(key, value, cache)))

  query = rearrange(query, "w t (k r) h -> w k (t r) h", k=heads)
  place = jnp.arange(query.shape[2]) // (query.shape[2] // length)
  own = [rearrange(x, "w t k h -> w k t h") for x in (key, value)]
  found = _add(nothing(query), query, *own, (jnp.arange(length)[None] <= place[:, None])[None, None])

  def one(entry, found):
    owner, pages, seen = (x[entry] for x in (chunks.owners, chunks.earlier, chunks.seen))
    seen = (jnp.arange(length) < seen)[None]
    keys, values = apart([rearrange(x.at[pages].get(mode="clip"), "c k p h -> k (c p) h") for x in cache])
    # A weight of 0 does not hide a NaN that an earlier owner left in the last page.
    values = jnp.where(seen[..., None], values, 0)
    row = lambda x: jax.lax.dynamic_index_in_dim(x, owner, keepdims=False)  # noqa: E731
    new = _add(tuple(row(x) for x in found), row(query), keys, values, seen[:, None])
    return tuple(jax.lax.dynamic_update_index_in_dim(x, y, owner, 0) for x, y in zip(found, new))

  attended, total, _ = jax.lax.fori_loop(0, chunks.count[0], one, found)
  attended = (attended / total).astype(dtype)
  return rearrange(attended, "w k (t r) h -> w t (k r) h", t=length), cache


def _write(kept: jax.Array, new: jax.Array, written: jax.Array) -> jax.Array:
  """Writes what is kept of the rows, [W, C, K, ..], to whole pages."""
  pages = rearrange(new, "w (c p) k h -> (w c) k p h", p=kept.shape[2])
  return kept.at[written.ravel()].set(pages, mode="drop")


def _add(found: Unfinished, query: jax.Array, keys: jax.Array, values: jax.Array, seen: jax.Array) -> Unfinished:
  """Adds the attention to further keys.

  Args:
    found: of the keys before.
    query: [.., K, M, H].
    keys: [.., K, C, H].
    values: [.., K, C, H].
    seen: bool, broadcasts to [.., K, M, C].
  """
  attended, total, largest = found
  scores = jnp.einsum("...mh,...th->...mt", query, keys, preferred_element_type=jnp.float32)
  scores = jnp.where(seen, scores * query.shape[-1] ** -0.5, MASKED)
  new_largest = jnp.maximum(largest, scores.max(-1, keepdims=True))
  weights, shrink = jnp.where(seen, jnp.exp(scores - new_largest), 0), jnp.exp(largest - new_largest)
  new = jnp.einsum("...mt,...th->...mh", weights.astype(values.dtype), values, preferred_element_type=jnp.float32)
  return attended * shrink + new, total * shrink + weights.sum(-1, keepdims=True), new_largest
