"""Makes lists of pages for tests in which each row has pages of its own and no prompt."""

import jax.numpy as jnp
import numpy as np

from posttrain_jax.models.paged_attention import LIST_UNIT, PageList, Reads


def page_list(owned: list[tuple[int, list[int]]]) -> PageList:
  """Makes one device's list from (owner, pages)."""
  entries = [(owner, page, number) for owner, pages in owned for number, page in enumerate(pages)]
  found = np.zeros((3, LIST_UNIT), np.int32)
  if entries:
    found[:, : len(entries)] = np.array(entries).T
  return PageList(*found, count=np.array([len(entries)], np.int32))


def own_pages(rows: int, each: int) -> Reads:
  """Gives row s the pages s · each to (s + 1) · each - 1."""
  pages = np.arange(rows * each, dtype=np.int32).reshape(rows, each)
  return Reads(
    own=page_list([(row, list(pages[row])) for row in range(rows)]),
    prompts=page_list([]),
    prompt_lengths=jnp.zeros(1, jnp.int32),
    readers=jnp.zeros(1, jnp.int32),
    lanes=jnp.zeros(rows, jnp.int32),
    written=jnp.asarray(pages),
    first=jnp.zeros(rows, jnp.int32),
  )


def in_pages(keys, page: int):
  """Cuts keys or values into pages.

  From [S, T, K, H] with T a multiple of `page` it makes [S · n, K, page, H].
  """
  rows, length, heads, width = keys.shape
  cut = jnp.asarray(keys).reshape(rows, length // page, page, heads, width).transpose(0, 1, 3, 2, 4)
  return cut.reshape(-1, heads, page, width)
