"""Attends to listed pages on TPU, in a Pallas kernel.

It computes what the formulas of `models.paged_attention` compute, and its scores stay in the chip's vector memory. Each
listed page is copied there once, for all query rows of its owner: the heads of a row, or those of all answers that read
a prompt. Only rows that do not fit into vector memory together read it again.

A step of the grid takes up to `_TOGETHER` consecutive pages of one owner, from a multiple of `_TOGETHER` in the owner's
text. So the bits of an owner do not depend on its place in the list. Owners' steps stand together, and each owner has
one at least, so every result is written, and once. The number of steps is known when the program runs.

A page is too small for the memory's bandwidth: with 4 heads of 128 it has 64 KiB of keys and values, which v5e reads in
80 ns, while a copy takes about a microsecond to begin (an estimate; no TPU has measured it). So the pages of the next
steps are under way too, as many as fit into `_UNDER_WAY` bytes.

O owners, n pages, K key/value heads, M query rows of each owner and head, H head dimension, L length of a list, G
pages of a step, N steps at most.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

MASKED = -1e30  # the score of a token that is not seen
_LANES = 128  # numbers of a vector
_TOGETHER = 8  # pages of a step: 256 tokens, two tiles of scores
_UNDER_WAY = 2**22  # bytes of vector memory for pages that are copied; a quarter of what a kernel may have
_MOST_STEPS = 16  # whose pages are copied at the same time
_OF_ROWS = 7 * 2**20  # bytes of vector memory for an owner's queries and results, of 16 MiB on v4 and v5p


def read_pages(
  query: jax.Array,
  cache: jax.Array,
  listed: tuple[jax.Array, jax.Array, jax.Array],
  lengths: jax.Array,
  *,
  interpret: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Attends from owners' queries to their pages, up to the division.

  Args:
    query: [O, K, M, H].
    cache: [n, K, page, 2 H], each token's keys followed by its values.
    listed: owners int32 [L] and pages int32 [L], and the number int32 [] of real entries. Entries of an owner stand
      together, in the order of its text, and owners rise.
    lengths: int32 [O], tokens of each owner; pages that begin later are not read.
    interpret: interprets the kernel step by step, slowly, on any platform (tests).

  Returns:
    The weighted values [O, K, M, H], the sums of the weights and the largest scores, both [O, K, M, 1], all float32.
    An owner without pages has zeros, zeros and a very low score.
  """
  owners, pages, count = listed
  (_, heads, rows, width), page = query.shape, cache.shape[2]
  if rows > (most := _most_rows(heads, width)):  # each part reads the pages
    blocks = [query[:, :, first : first + most] for first in range(0, rows, most)]
    parts = [read_pages(part, cache, listed, lengths, interpret=interpret) for part in blocks]
    return tuple(jnp.concatenate(arrays, axis=2) for arrays in zip(*parts))
  scale, apart = width**-0.5, width % _LANES == 0
  if not apart:  # zeros instead of values: half a vector of lanes cannot be read alone
    query = jnp.pad(query, ((0, 0), (0, 0), (0, 0), (0, width)))
  bytes_of_page = 2 * heads * page * width * cache.dtype.itemsize
  together = _TOGETHER
  while together > 1 and 2 * together * bytes_of_page > _UNDER_WAY:
    together //= 2
  depth = max(2, min(_MOST_STEPS, _UNDER_WAY // (together * bytes_of_page)))
  steps, number = cut(owners, count, lengths, page=page, together=together)
  of_owner = lambda size: pl.BlockSpec((1, heads, rows, size), lambda step, owner, *_: (owner[step], 0, 0, 0))  # noqa: E731
  sizes = (query.shape[-1], 1, 1)
  attended, *sums = pl.pallas_call(
    functools.partial(_kernel, depth=depth, scale=scale, apart=apart),
    grid_spec=pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=6,
      in_specs=[of_owner(query.shape[-1]), pl.BlockSpec(memory_space=pl.ANY)],
      out_specs=[of_owner(size) for size in sizes],
      grid=(number,),
      scratch_shapes=[
        pltpu.VMEM((depth, together, *cache.shape[1:]), cache.dtype),
        pltpu.SemaphoreType.DMA((depth,)),
      ],
    ),
    out_shape=[jax.ShapeDtypeStruct((*query.shape[:3], size), jnp.float32) for size in sizes],
    compiler_params=pltpu.CompilerParams(dimension_semantics=("arbitrary",)),
    name="read_pages",
    interpret=interpret,
  )(*steps, pages, lengths, query, cache)
  return attended[..., -width:], *sums


def _most_rows(heads: int, width: int) -> int:
  """Returns the most rows M of one call."""
  lanes = width if width % _LANES == 0 else 2 * width
  row = 2 * (2 * lanes + 4 * lanes + 2 * 4 * _LANES)  # two buffers of a bfloat16 query and of float32 results
  return max(8, _OF_ROWS // row // heads // 8 * 8)


def cut(
  owners: jax.Array, count: jax.Array, lengths: jax.Array, *, page: int, together: int
) -> tuple[tuple[jax.Array, ...], jax.Array]:
  """Cuts a list into steps of up to `together` pages of one owner.

  Args:
    owners: int32 [L], owner of each entry.
    count: int32 [], entries that are real.
    lengths: int32 [O], tokens of each owner.
    page: tokens of a page.
    together: pages of a step.

  Returns:
    Four arrays int32 [N]: the step's owner, its first entry in the list, its live pages, and the number of its first
    page in the owner's text. Then the number of steps, int32 []; those after it have no live page.
  """
  last = len(lengths)
  owners = jnp.where(jnp.arange(len(owners)) < count, owners, last)
  begins = jnp.sum(owners[None] < jnp.arange(last + 1)[:, None], axis=1)
  live = jnp.minimum(begins[1:] - begins[:-1], (lengths + page - 1) // page)
  each = jnp.maximum(1, (live + together - 1) // together)
  ends = jnp.cumsum(each)
  step = jnp.arange(last + len(owners) // together, dtype=jnp.int32)
  owner = jnp.minimum(jnp.sum(ends[None] <= step[:, None], axis=1), last - 1)
  first = (step - (ends - each)[owner]) * together
  return (owner, begins[owner] + first, jnp.clip(live[owner] - first, 0, together), first), ends[-1]


def _kernel(
  owners, entries, counts, firsts, pages, lengths, query, cache, attended, total, largest, copied, arrived,
  *, depth, scale, apart,
):  # fmt: skip
  step, number = pl.program_id(0), pl.num_programs(0)
  _, together, heads, page, width = copied.shape
  tokens, place = together * page, step % depth

  def copies(of, act):
    """Begins the copies of a step's pages, or waits for them."""

    def one(i, _):
      here = cache.at[pages[entries[of] + i]]
      act(pltpu.make_async_copy(here, copied.at[of % depth, i], arrived.at[of % depth]))

    jax.lax.fori_loop(0, counts[of], one, None)

  def begin(of, _=None):
    copies(of, lambda copy: copy.start())

  @pl.when(step == 0)
  def _():
    copied[...] = jnp.zeros_like(copied)  # a token that is not seen has a weight of 0, and 0 times NaN would be NaN
    jax.lax.fori_loop(0, jnp.minimum(depth - 1, number), begin, None)

  @pl.when(step + depth - 1 < number)
  def _():
    begin(step + depth - 1)

  @pl.when((step == 0) | (owners[jnp.maximum(step - 1, 0)] != owners[step]))
  def _():
    attended[...] = jnp.zeros_like(attended)
    total[...] = jnp.zeros_like(total)
    largest[...] = jnp.full_like(largest, MASKED)

  copies(step, lambda copy: copy.wait())
  token = jax.lax.broadcasted_iota(jnp.int32, (query.shape[2], tokens), 1)
  seen = token < jnp.minimum(lengths[owners[step]] - firsts[step] * page, counts[step] * page)
  for head in range(heads):
    found = copied[place, :, head].reshape(tokens, width)
    key, value = (found[:, : width // 2], found[:, width // 2 :]) if apart else (found, found)
    scores = jnp.where(seen, _dot(query[0, head], key, ((1,), (1,))) * scale, MASKED)
    now = jnp.maximum(largest[0, head], scores.max(-1, keepdims=True))
    weights = jnp.where(seen, jnp.exp(scores - now), 0.0)
    kept = jnp.exp(largest[0, head] - now)
    total[0, head] = total[0, head] * kept + weights.sum(-1, keepdims=True)
    attended[0, head] = attended[0, head] * kept + _dot(weights.astype(value.dtype), value, ((1,), (0,)))
    largest[0, head] = now


def _dot(a, b, contract):
  return jax.lax.dot_general(a, b, (contract, ((), ())), preferred_element_type=jnp.float32)
