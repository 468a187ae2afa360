"""Attends to listed pages on GPU, in two Pallas kernels that Triton compiles.

They compute what the formulas of `models.paged_attention` compute, without an array of copied pages. No GPU has run
them. Tests interpret them on a CPU, and lower them for CUDA.

The first kernel takes the steps of `page_kernels.cut`: up to `_TOGETHER` consecutive pages of one owner. Each step and
head is a program of its own, so that a long answer keeps many multiprocessors busy. A program loads a page once for up
to `_MOST_ROWS` query rows of the owner: the heads of a row, or those of all answers that read a prompt. Further rows
are other programs. The second kernel joins an owner's steps in the order of its text. So the bits of an owner depend on
no other owner.

A step of 256 tokens and H numbers, in bfloat16, loads 1,024 H bytes. Its result, which is written and read, has 128 H
bytes for 16 rows, and 512 H bytes for 64. They are fresh, so a cache of some ten MiB on the chip may hold them.

Float32 is multiplied as TF32, as elsewhere on GPU, unless `jax_default_matmul_precision` says otherwise.

O owners, n pages, K key/value heads, M query rows of each owner and head, H head dimension, L length of a list.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from posttrain_jax.models.page_kernels import MASKED, cut

_TOGETHER = 8  # pages of a step
_LEAST_ROWS, _MOST_ROWS = 16, 64  # query rows of a program; tensor cores multiply 16 at least
_AT_ONCE = 2**13  # bytes of keys, and of values, that a program loads at once, if a page is not larger
_STAGES = 2  # loads that are under way together


def fits(cache: tuple[jax.Array, ...]) -> bool:
  """Tells whether the kernels take this cache: Triton's arrays have powers of two as sizes."""
  page, width = cache[0].shape[2:]
  return width >= 16 and not any(size & (size - 1) for size in (page, width))


def read_pages(
  query: jax.Array,
  cache: tuple[jax.Array, jax.Array],
  listed: tuple[jax.Array, jax.Array, jax.Array],
  lengths: jax.Array,
  *,
  interpret: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Attends from owners' queries to their pages, up to the division.

  Args:
    query: [O, K, M, H].
    cache: keys and values, both [n, K, page, H], of the query's dtype; `fits`.
    listed: owners int32 [L] and pages int32 [L], and the number int32 [] of real entries. Entries of an owner stand
      together, in the order of its text, and owners rise.
    lengths: int32 [O], tokens of each owner; tokens after them are not read.
    interpret: interprets the kernels step by step, slowly, on any platform (tests).

  Returns:
    The weighted values [O, K, M, H], the sums of the weights and the largest scores, both [O, K, M, 1], all float32.
    An owner without pages has zeros, zeros and a very low score.
  """
  owners, pages, count = listed
  (_, heads, rows, width), page = query.shape, cache[0].shape[2]
  block = min(_MOST_ROWS, max(_LEAST_ROWS, pl.next_power_of_2(rows)))
  query = jnp.pad(query, ((0, 0), (0, 0), (0, -rows % block), (0, 0)))
  at_once = min(_TOGETHER, max(1, _AT_ONCE // (page * width * cache[0].dtype.itemsize)))
  steps, _ = cut(owners, count, lengths, page=page, together=_TOGETHER)
  of_step, _, live, _ = steps
  owner = jnp.arange(len(lengths), dtype=jnp.int32)[:, None]
  begins = jnp.sum(of_step[None] < owner, axis=1, dtype=jnp.int32)
  parts = jnp.sum((of_step[None] == owner) & (live > 0)[None], axis=1, dtype=jnp.int32)

  def call(kernel, results, *arrays):
    """Runs a program for each element of the results, head and block of rows."""
    sizes = ((width,), (), ())
    return pl.pallas_call(
      functools.partial(kernel, block=block),
      grid=(results, heads, query.shape[2] // block),
      out_shape=[jax.ShapeDtypeStruct((results, *query.shape[1:3], *size), jnp.float32) for size in sizes],
      compiler_params=triton.CompilerParams(num_warps=4, num_stages=_STAGES),
      interpret=interpret,
    )(*arrays)

  found = call(functools.partial(_read_step, at_once=at_once), len(of_step), *steps, pages, lengths, query, *cache)
  attended, *sums = call(_join_steps, len(lengths), begins, parts, *found)
  return attended[:, :, :rows], *(x[:, :, :rows, None] for x in sums)


def _read_step(
  owners, entries, counts, firsts, pages, lengths, query, keys, values, attended, total, largest, *, at_once, block
):  # fmt: skip
  step, head, rows = _place(block)
  owner, entry, count = owners[step], entries[step], counts[step]
  page, width = keys.shape[2:]
  tokens = at_once * page
  end = jnp.minimum(lengths[owner] - firsts[step] * page, count * page)

  @pl.when(count > 0)  # the result of a step without pages is not read
  def _():
    asked = query[owner, head, rows]

    def load(array, token, seen):
      here = triton.load(pages.at[entry + token // page], mask=seen, other=0)[:, None]
      at = here, head, (token % page)[:, None], jnp.arange(width)[None]
      # What is not seen may be NaN, and a weight of 0 would not hide it.
      return triton.load(array.at[at], mask=jnp.broadcast_to(seen[:, None], (tokens, width)), other=0)

    def some(i, found):
      attended, total, before = found
      token = i * tokens + jnp.arange(tokens)
      seen = token < end
      key, value = (load(array, token, seen) for array in (keys, values))
      scores = jnp.where(seen[None], _dot(asked, key, ((1,), (1,))) * width**-0.5, MASKED)
      now = jnp.maximum(before, scores.max(-1))
      weights = jnp.where(seen[None], jnp.exp(scores - now[:, None]), 0.0)
      kept = jnp.exp(before - now)
      attended = attended * kept[:, None] + _dot(weights.astype(value.dtype), value, ((1,), (0,)))
      return attended, total * kept + weights.sum(-1), now

    found = jax.lax.fori_loop(0, pl.cdiv(count, at_once), some, _nothing(block, width))
    for result, x in zip((attended, total, largest), found):
      result[step, head, rows] = x


def _join_steps(begins, parts, *arrays, block):
  """Joins the results of an owner's steps: three arrays, then those of the results."""
  owner, head, rows = _place(block)
  begin = begins[owner]

  def one(i, found):
    attended, total, before = found
    more, sum_of_more, largest = (x[begin + i, head, rows] for x in arrays[:3])
    now = jnp.maximum(before, largest)
    kept, taken = jnp.exp(before - now), jnp.exp(largest - now)
    return attended * kept[:, None] + more * taken[:, None], total * kept + sum_of_more * taken, now

  found = jax.lax.fori_loop(0, parts[owner], one, _nothing(block, arrays[0].shape[-1]))
  for result, x in zip(arrays[3:], found):
    result[owner, head, rows] = x


def _place(block):
  """Returns a program's element of the results, its head and its rows."""
  return pl.program_id(0), pl.program_id(1), pl.ds(pl.program_id(2) * block, block)


def _nothing(rows, width):
  """Returns the unfinished attention to no key."""
  zeros = jnp.zeros((rows,), jnp.float32)
  return jnp.zeros((rows, width), jnp.float32), zeros, jnp.full_like(zeros, MASKED)


def _dot(a, b, contract):
  return jax.lax.dot_general(a, b, (contract, ((), ())), preferred_element_type=jnp.float32)
