"""Tests attention to pages against the plain formula in numpy float64, and that no bit depends on other rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.models.paged_attention import PageList, Reads, paged
from posttrain_jax.parallel.mesh import make_mesh
from tests.models.attention_test import HEADS, KV_HEADS, WIDTH, plain, projections
from tests.models.own_pages import in_pages, own_pages, page_list

PAGE = 4


@jax.jit
def attend(reads, places, active, query, key, value, cache):
  return paged(reads, places, active)(query, key, value, cache)


def test_a_token_is_written_and_sees_what_came_before():
  """Covers the first and the last place of a page, a row with one token, and a row that is not in use."""
  rows = 4
  keys, values = projections(rows, 2 * PAGE, seed=1)[1:]
  query, key, value = projections(rows, 1)
  places, active = np.array([0, 3, 4, 6]), np.array([True, True, True, False])
  cache = tuple(in_pages(x, PAGE) for x in (keys, values))
  attended, new = attend(own_pages(rows, 2), places, active, query, key, value, cache)
  expected = [np.array(x) for x in (keys, values)]
  for x, token in zip(expected, (key, value)):
    x[np.arange(3), places[:3]] = token[:3, 0]
  for found, x in zip(new, expected):
    np.testing.assert_array_equal(found, in_pages(x, PAGE))
  allowed = (np.arange(2 * PAGE)[None] <= places[:, None])[:, None]
  np.testing.assert_allclose(attended[:3], plain(query, *expected, allowed)[:3], atol=1e-5)


def case(seed=0, shards=1):
  """Makes rows of several lengths in scattered pages that share prompts, with all arguments and each row's texts.

  On each device rows 0, 1 and 3 share the prompt 1 of 6 tokens, row 2 has the empty prompt 0, and row 4 is not in use.
  """
  rng = np.random.default_rng(seed)
  rows, pages = 5, 16
  order = np.stack([rng.permutation(pages) for _ in range(shards)])
  keys, values = (rng.normal(size=(shards * pages, KV_HEADS, PAGE, WIDTH)).astype(np.float32) for _ in range(2))
  places = np.tile([5, 0, 9, 3, 0], shards)
  taken = [order[:, :3], order[:, 3:4], order[:, 4:7], order[:, 7:8]]  # the first has a page that is not begun yet
  lists = [page_list([(row, list(each[shard])) for row, each in enumerate(taken)]) for shard in range(shards)]
  prompts = [page_list([(1, list(order[shard, 8:10]))]) for shard in range(shards)]
  join = lambda parts: jax.tree.map(lambda *x: np.concatenate(x), *parts)  # noqa: E731
  written = np.zeros((shards, rows, 3), np.int32)
  for row, each in enumerate(taken):
    written[:, row, : each.shape[1]] = each
  reads = Reads(
    own=join(lists),
    prompts=join(prompts),
    prompt_lengths=np.tile(np.array([0, 6], np.int32), shards),
    readers=np.tile(np.array([2, 0, 0, 3, 0, 1], np.int32), shards),
    lanes=np.tile(np.array([4, 5, 0, 3, 0], np.int32), shards),
    written=written.reshape(-1, 3),
    first=np.zeros(shards * rows, np.int32),
  )
  query, key, value = projections(shards * rows, 1, seed=seed + 9)

  def text(x, shard, ids):
    taken = x.reshape(shards, pages, KV_HEADS, PAGE, WIDTH)[shard, ids]
    return taken.swapaxes(1, 2).reshape(-1, KV_HEADS, WIDTH)

  texts = {}
  for shard in range(shards):
    for row, each in enumerate(taken):
      index = shard * rows + row
      joined = []
      for x, token in ((keys, key), (values, value)):
        prompt = text(x, shard, order[shard, 8:10])[: 0 if row == 2 else 6]
        joined.append(np.concatenate([prompt, text(x, shard, each[shard])[: places[index]], token[index]]))
      texts[index] = joined
  active = np.tile(np.arange(rows) < 4, shards)
  return (reads, places, active, query, key, value, (jnp.asarray(keys), jnp.asarray(values))), texts


@pytest.mark.parametrize("shards", [1, 2])
def test_scattered_pages_and_shared_prompts(shards):
  arguments, texts = case(shards=shards)
  mesh = make_mesh({"data": shards}, jax.devices()[:shards])
  with jax.set_mesh(mesh):
    attended, _ = attend(*arguments)
  for row, (keys, values) in texts.items():
    query = arguments[3][row : row + 1]
    expected = plain(query, keys[None], values[None], np.ones((1, 1, len(keys)), bool))
    np.testing.assert_allclose(attended[row : row + 1], expected, atol=1e-5)
  assert np.all(np.isfinite(attended))


def test_heads_on_several_devices():
  arguments, _ = case()
  alone, _ = attend(*arguments)
  with jax.set_mesh(make_mesh({"tensor": 2}, jax.devices()[:2])):
    attended, _ = attend(*arguments)
  np.testing.assert_allclose(attended, alone, atol=1e-6)


def test_no_bit_depends_on_other_rows_or_on_where_pages_lie():
  """Compares a row with itself alone, first in the list and in other pages."""
  (reads, places, active, query, key, value, cache), _ = case()
  whole, _ = attend(reads, places, active, query, key, value, cache)
  for row, pages in ((0, [11, 2, 7]), (2, [0, 5, 3])):
    old = [page for owner, page in zip(reads.own.owners, reads.own.pages) if owner == row][:3]
    moved = tuple(x.at[jnp.array(pages)].set(x[jnp.array(old)]) for x in cache)
    prompt = reads.prompts.pages[:2]
    where = [12, 13] if not set(prompt) & {12, 13} else [14, 15]
    moved = tuple(x.at[jnp.array(where)].set(y[jnp.array(prompt)]) for x, y in zip(moved, cache))
    alone = Reads(
      own=page_list([(row, pages)]),
      prompts=page_list([(1, where)]),
      prompt_lengths=reads.prompt_lengths,
      readers=reads.readers,
      lanes=reads.lanes,
      written=jnp.tile(jnp.array(pages, jnp.int32), (5, 1)),
      first=reads.first,
    )
    found, _ = attend(alone, places, np.arange(5) == row, query, key, value, moved)
    np.testing.assert_array_equal(found[row], whole[row])


def test_many_pages_of_one_row_and_of_many_rows():
  """Reads 40 pages: more than one chunk, and a row's pages lie in two of them."""
  rows, each = 4, 10
  keys, values = projections(rows, each * PAGE, seed=1)[1:]
  query, key, value = projections(rows, 1)
  entries = np.zeros((3, 64), np.int32)
  entries[:, :40] = [np.repeat(np.arange(4), 10), np.arange(40), np.tile(np.arange(10), 4)]
  reads = own_pages(rows, 1)
  reads = Reads(
    own=PageList(*entries, count=np.array([40], np.int32)),
    prompts=reads.prompts,
    prompt_lengths=reads.prompt_lengths,
    readers=reads.readers,
    lanes=reads.lanes,
    written=np.arange(40, dtype=np.int32).reshape(4, 10),
    first=reads.first,
  )
  places = np.array([39, 20, 0, 35])
  cache = tuple(in_pages(x, PAGE) for x in (keys, values))
  attended, _ = attend(reads, places, np.ones(4, bool), query, key, value, cache)
  expected = [np.array(x) for x in (keys, values)]
  for x, token in zip(expected, (key, value)):
    x[np.arange(rows), places] = token[:, 0]
  allowed = (np.arange(each * PAGE)[None] <= places[:, None])[:, None]
  np.testing.assert_allclose(attended, plain(query, *expected, allowed), atol=1e-5)


def test_scores_are_float32_under_bfloat16():
  """Uses two keys whose scores differ by less than a bfloat16 step; float32 scores tell them apart."""
  scale = float(np.sqrt(WIDTH))
  query = jnp.zeros((1, 3, HEADS, WIDTH), jnp.bfloat16).at[..., :2].set(1.0)
  key = jnp.zeros((1, 4, KV_HEADS, WIDTH), jnp.bfloat16).at[..., 0].set(256.0 * scale).at[:, 1, :, 1].set(scale)
  value = jnp.zeros((1, 4, KV_HEADS, WIDTH), jnp.bfloat16).at[:, 1].set(1.0)
  cache = tuple(in_pages(x, PAGE) for x in (key, value))
  one = functools.partial(attend, own_pages(1, 1), np.array([2]), np.ones(1, bool))
  attended, _ = one(query[:, 2:], key[:, 2:3], value[:, 2:3], cache)
  # In bfloat16 256 + 1 is 256, and the weight of the second key would be 1/3 instead of e / (e + 2).
  assert attended.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.asarray(attended[0, -1], np.float32), np.e / (np.e + 2), atol=0.02)
