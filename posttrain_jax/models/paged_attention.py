"""Attends from one new token a row to keys and values that lie in pages.

A page holds the keys and values of a fixed number of consecutive tokens. It belongs to an answer or to a prompt. The
host lists which pages a step reads and for whom, so a step costs what its live tokens cost, whatever the caps are. The
answers of a group read their prompt's pages together.

The bits of a row do not depend on other rows: the products of a page have a fixed shape, whatever the page's place in
the list, and a row's pages are joined one after the other in the order of its text.

On CPU and GPU, a cache has two arrays, keys and values [n, K, page, H]. On CPU the formulas below read it. On GPU,
kernels do (`page_kernels_gpu`). On TPU it has one array [n, K, page, 2 H], each token's keys followed by its values,
and a kernel reads it (`page_kernels`). Heads of 64 then fill the 128 lanes of a vector. Two arrays of them would be
laid out with the pages last, and each decode step would copy the whole cache for the kernel.

D devices that the rows are split over, S rows, P prompts, A answers that read one prompt, L length of a list, n pages,
K key/value heads, R query heads for each of them, H head dimension, M query rows of one owner of pages.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from einops import rearrange

from posttrain_jax.models import page_kernels, page_kernels_gpu
from posttrain_jax.models.attention import Attend
from posttrain_jax.models.page_kernels import MASKED
from posttrain_jax.parallel.mesh import platform
from posttrain_jax.parallel.sharding import LEARNER_RULES, partition_spec

LIST_UNIT = 32  # a list's length is a multiple of it
_FEW_ROWS, _CHUNK_OF_MANY = 8, 8  # with more than 8 query rows, 8 pages are read at once and not 32

# The weighted values [.., K, M, H], the sum of the weights and the largest score, both [.., K, M, 1], all float32.
Unfinished = tuple[jax.Array, jax.Array, jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PageList:
  """Holds the pages to read, in the order of their owners' texts.

  Each device has a list of its own.

  Attributes:
    owners: int32 [D · L], number of the row or prompt on its device.
    pages: int32 [D · L], number of the page on its device.
    numbers: int32 [D · L], number of the page in its owner's text, from 0.
    count: int32 [D], entries that are real.
  """

  owners: jax.Array
  pages: jax.Array
  numbers: jax.Array
  count: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Reads:
  """Describes what some decode steps read and write.

  All numbers of rows, prompts and pages count on their device.

  Attributes:
    own: pages of the rows' own tokens, also those that only the last of the steps fills.
    prompts: pages of the prompts.
    prompt_lengths: int32 [D · P], tokens in each prompt's pages.
    readers: int32 [D · P · A], the row that reads each prompt in each of its A lanes; any number in an empty lane.
    lanes: int32 [D · S], A · (the row's prompt) + the row's lane.
    written: int32 [D · S, E], the row's pages from page `first` on; -1 for none.
    first: int32 [D · S], number of the page that the first of the steps writes to.
  """

  own: PageList
  prompts: PageList
  prompt_lengths: jax.Array
  readers: jax.Array
  lanes: jax.Array
  written: jax.Array
  first: jax.Array


def paged(reads: Reads, places: jax.Array, active: jax.Array) -> Attend:
  """Lets one new token a row (T = 1) attend to its prompt and row.

  The cache has one array or two, with D · n pages. The new token is written first.

  Args:
    reads: which pages are read and written.
    places: int [S], place of the new token among the row's own tokens.
    active: bool [S]; rows that are not active write nothing.

  Returns:
    The `attend`; it keeps the new cache.
  """

  def attend(query, key, value, cache):
    on_a_device, mesh = _on_a_device, jax.sharding.get_abstract_mesh()
    if not mesh.empty and mesh.size > 1:
      rows, heads = (partition_spec(axes, LEARNER_RULES) for axes in (("batch",), ("batch", "heads")))
      on_a_device = jax.shard_map(
        on_a_device,
        in_specs=(heads, heads, heads, heads, rows, rows, rows),
        out_specs=(heads, heads),
        check_vma=False,  # each device runs its own number of steps in the loop over its pages
      )
    attended, cache = on_a_device(query[:, 0], key[:, 0], value[:, 0], cache, reads, places, active)
    return attended[:, None], cache

  return attend


def stored(keys: jax.Array, values: jax.Array, cache: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
  """Arranges keys and values [..., H] like the arrays of a cache."""
  return (keys, values) if len(cache) == 2 else (jnp.concatenate([keys, values], axis=-1),)


def apart(arrays: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
  """Returns the keys and values [..., H] of what `stored` arranged."""
  return tuple(arrays) if len(arrays) == 2 else tuple(jnp.split(arrays[0], 2, axis=-1))


def _on_a_device(query, key, value, cache, reads: Reads, places, active) -> tuple[jax.Array, tuple[jax.Array, ...]]:
  pages, heads, page, _ = cache[0].shape
  column = jnp.clip(places // page - reads.first, 0, reads.written.shape[1] - 1)
  into = jnp.take_along_axis(reads.written, column[:, None], axis=1)[:, 0]
  into = jnp.where(active, into, pages + jnp.arange(query.shape[0]))  # out of range: dropped
  new = stored(key, value, cache)
  cache = tuple(_write(kept, token, into, places % page) for kept, token in zip(cache, new))

  query = rearrange(query, "s (k r) h -> s k r h", k=heads)
  own = _read(query, cache, reads.own, places + 1)
  share = reads.readers.shape[0] // reads.prompt_lengths.shape[0]
  together = rearrange(query.at[reads.readers].get(mode="clip"), "(p a) k r h -> p k (a r) h", a=share)
  of_prompts = _read(together, cache, reads.prompts, reads.prompt_lengths)
  of_prompt = [rearrange(x, "p k (a r) h -> (p a) k r h", a=share).at[reads.lanes].get(mode="clip") for x in of_prompts]
  attended, total, _ = _joined(of_prompt, own)
  attended = attended / jnp.where(total == 0, 1, total)  # 0 in a row that reads nothing
  return rearrange(attended.astype(cache[0].dtype), "s k r h -> s (k r) h"), cache


def _write(pages: jax.Array, new: jax.Array, into: jax.Array, offsets: jax.Array) -> jax.Array:
  """Writes what is kept of one token of each row.

  Heads are indices. If they were a part of what is written, a TPU would copy the cache.

  Args:
    pages: [n, K, page, W].
    new: [S, K, W].
    into: int [S], all different; rows out of range write nothing.
    offsets: int [S], place of the token in its page.
  """
  place = pages.at[into[:, None], jnp.arange(pages.shape[1])[None], offsets[:, None]]
  return place.set(new.astype(pages.dtype), mode="drop", unique_indices=True)


def _read(query: jax.Array, cache: tuple[jax.Array, ...], listed: PageList, lengths: jax.Array) -> Unfinished:
  """Attends from queries [O, K, M, H] to each owner's pages."""
  entries = (listed.owners, listed.pages, listed.count[0])
  if len(cache) == 1:
    return page_kernels.read_pages(query, *cache, entries, lengths, interpret=platform() != "tpu")
  if platform() == "gpu" and page_kernels_gpu.fits(cache):
    return page_kernels_gpu.read_pages(query, cache, entries, lengths)
  return _by_formulas(query, *cache, listed, lengths)


def _by_formulas(
  query: jax.Array, keys: jax.Array, values: jax.Array, listed: PageList, lengths: jax.Array
) -> Unfinished:
  """Attends from owners' queries to their pages, in a loop over chunks of the list.

  Args:
    query: [O, K, M, H].
    keys: [n, K, page, H].
    values: [n, K, page, H].
    listed: the pages.
    lengths: int [O], tokens of each owner.

  Returns:
    The unfinished attention, [O, ...]: zeros for an owner without pages.
  """
  chunk = LIST_UNIT if query.shape[2] <= _FEW_ROWS else _CHUNK_OF_MANY
  count, page = listed.count[0], keys.shape[2]

  def take(x, index):
    # As rows of a matrix, a CPU copies pages as fast as memory allows. A TPU would copy the whole cache for that.
    flat = x.reshape(x.shape[0], -1) if platform() == "cpu" else x
    return flat.at[index].get(mode="promise_in_bounds").reshape(-1, *x.shape[1:])

  def one_chunk(carry):
    start, found = carry
    owners, pages, numbers = (
      jax.lax.dynamic_slice(x, (start,), (chunk,)) for x in (listed.owners, listed.pages, listed.numbers)
    )
    seen = numbers[:, None] * page + jnp.arange(page)[None] < lengths[owners][:, None]
    parts = _unfinished(take(query, owners), take(keys, pages), take(values, pages), seen[:, None, None, :])

    def one_page(i, found):
      row = lambda x, at: jax.lax.dynamic_slice_in_dim(x, at, 1)  # noqa: E731
      new = _joined([row(x, owners[i]) for x in found], [row(x, i) for x in parts])
      return tuple(jax.lax.dynamic_update_slice_in_dim(x, y, owners[i], 0) for x, y in zip(found, new))

    return start + chunk, jax.lax.fori_loop(0, jnp.minimum(chunk, count - start), one_page, found)

  return jax.lax.while_loop(lambda carry: carry[0] < count, one_chunk, (jnp.int32(0), nothing(query)))[1]


def nothing(query: jax.Array) -> Unfinished:
  """Returns the unfinished attention of queries [.., K, M, H] to no key."""
  sums = jnp.zeros((*query.shape[:-1], 1), jnp.float32)
  return jnp.zeros(query.shape, jnp.float32), sums, jnp.full_like(sums, MASKED)


def _unfinished(query: jax.Array, keys: jax.Array, values: jax.Array, seen: jax.Array) -> Unfinished:
  """Computes attention up to the division.

  Args:
    query: [B, K, M, H].
    keys: [B, K, T, H].
    values: [B, K, T, H].
    seen: bool, broadcasts to [B, K, M, T]; a query without a seen key gets zeros.
  """
  scores = jnp.einsum("bkmh,bkth->bkmt", query, keys, preferred_element_type=jnp.float32)
  scores = jnp.where(seen, scores * query.shape[-1] ** -0.5, MASKED)
  largest = scores.max(-1, keepdims=True)
  weights = jnp.where(seen, jnp.exp(scores - largest), 0)
  attended = jnp.einsum("bkmt,bkth->bkmh", weights.astype(values.dtype), values, preferred_element_type=jnp.float32)
  return attended, weights.sum(-1, keepdims=True), largest


def _joined(one: Unfinished, other: Unfinished) -> Unfinished:
  """Joins the unfinished attention to two sets of keys."""
  largest = jnp.maximum(one[2], other[2])
  first, second = jnp.exp(one[2] - largest), jnp.exp(other[2] - largest)
  return one[0] * first + other[0] * second, one[1] * first + other[1] * second, largest


def cleared(values: jax.Array, reads: Reads, places: jax.Array, active: jax.Array) -> jax.Array:
  """Writes zeros to the pages that rows begin in the next steps.

  A weight of 0 does not hide a NaN: the values that an earlier owner left after a row's last token must be finite. Its
  keys may be anything, since the scores of tokens that are not seen are replaced.

  Args:
    values: [D · n, K, page, H], or keys and values [D · n, K, page, 2 H].
    reads: of the next steps.
    places: int [S], place of the first new token among the row's own tokens.
    active: bool [S]; rows that are not active write nothing.

  Returns:
    The values.
  """

  def on_a_device(values, written, first, places, active):
    begins = (first[:, None] + jnp.arange(written.shape[1])[None]) * values.shape[2]
    fresh = active[:, None] & (written >= 0) & (begins >= places[:, None])
    return values.at[jnp.where(fresh, written, values.shape[0]).ravel()].set(0, mode="drop")

  mesh = jax.sharding.get_abstract_mesh()
  if not mesh.empty and mesh.size > 1:
    rows, pages = (partition_spec(axes, LEARNER_RULES) for axes in (("batch",), ("batch", "heads")))
    specs = pages, rows, rows, rows, rows
    on_a_device = jax.shard_map(on_a_device, in_specs=specs, out_specs=pages, check_vma=False)
  return on_a_device(values, reads.written, reads.first, places, active)
