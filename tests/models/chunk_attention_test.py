"""Tests attention of chunks to themselves and to earlier chunks in pages, against one softmax over the whole text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.models.chunk_attention import Chunks, chunked
from posttrain_jax.parallel.mesh import make_mesh

CHUNK, PAGE, PAGES, HEADS, KV_HEADS, SIZE = 8, 4, 20, 4, 2, 8


def text(length, seed):
  """Makes queries, keys and values of a text, [length, heads, SIZE]."""
  rng = np.random.default_rng(seed)
  return [rng.normal(size=(length, heads, SIZE)).astype(np.float32) for heads in (HEADS, KV_HEADS, KV_HEADS)]


def whole(query, key, value):
  """Attends from each token to itself and to all before it, in float64, head by head."""
  found = np.zeros(query.shape)
  for t in range(len(query)):
    for head in range(HEADS):
      of = head // (HEADS // KV_HEADS)
      scores = key[: t + 1, of].astype(np.float64) @ query[t, head] / np.sqrt(SIZE)
      weights = np.exp(scores - scores.max())
      found[t, head] = weights / weights.sum() @ value[: t + 1, of]
  return found


def chunks(rows, width=4):
  """Makes the arrays of rows (count, pages to write, [(pages, tokens) of each earlier chunk])."""
  counts, written = np.zeros(width, np.int32), np.full((width, 2), PAGES, np.int32)
  owners, earlier, seen = np.zeros(12, np.int32), np.zeros((12, 2), np.int32), np.zeros(12, np.int32)
  at = 0
  for row, (count, pages, before) in enumerate(rows):
    counts[row], written[row, : len(pages)] = count, pages
    for of_chunk, number in before:
      owners[at], earlier[at, : len(of_chunk)], seen[at] = row, of_chunk, number
      at += 1
  tokens = np.zeros((width, CHUNK), np.int32)
  return Chunks(tokens, counts, counts, written, owners, earlier, seen, np.array([at], np.int32))


@jax.jit
def attend(given, query, key, value, cache):
  return chunked(given)(query, key, value, cache)


def rows_of(parts, width=4):
  """Stacks parts of texts as rows, padded with NaN."""
  found = []
  for i in range(3):
    rows = np.full((width, CHUNK, *parts[0][i].shape[1:]), np.nan, np.float32)
    for row, part in enumerate(parts):
      rows[row, : len(part[i])] = part[i]
    found.append(rows)
  return found


def dirty():
  return tuple(jnp.full((PAGES, KV_HEADS, PAGE, SIZE), jnp.nan) for _ in range(2))


PLACES = [(1, 2), (9, 3), (7,)]  # pages of a text of 19 tokens


@pytest.mark.parametrize("calls", [[(0, 1, 2)], [(0,), (1, 2)], [(0, 1), (2,)]])
def test_a_text_in_chunks_is_one_softmax(calls):
  """Runs a text of 19 tokens in one call or two, beside a text of 5, in a cache full of NaN."""
  long, short = text(19, 0), text(5, 1)
  parts = [[x[8 * i : 8 * i + 8] for x in long] for i in range(3)]
  cache, found = dirty(), {}
  for call in calls:
    rows = [(len(parts[i][0]), PLACES[i], [(PLACES[j], 8) for j in range(i)]) for i in call]
    given = chunks([(5, (4, 5), []), *rows])
    attended, cache = attend(given, *rows_of([short, *[parts[i] for i in call]]), cache)
    np.testing.assert_allclose(attended[0, :5], whole(*short), atol=1e-5)
    found |= {i: attended[1 + row, : len(parts[i][0])] for row, i in enumerate(call)}
  np.testing.assert_allclose(np.concatenate([found[i] for i in range(3)]), whole(*long), atol=1e-5)
  for kept, own in zip(cache, long[1:]):
    joined = np.concatenate([kept[page] for pages in PLACES for page in pages], axis=1)
    np.testing.assert_array_equal(joined[:, :19], own.transpose(1, 0, 2))
    assert not joined[:, 19:].any()


def test_an_earlier_chunk_may_end_anywhere():
  """An answer sees the three tokens of its prompt, and not what an earlier owner left after them."""
  both = text(9, 2)
  prompt, answer = [x[:3] for x in both], [x[3:] for x in both]
  _, cache = attend(chunks([(3, (6,), [])]), *rows_of([prompt]), dirty())
  cache = tuple(x.at[6, :, 3:].set(jnp.nan) for x in cache)
  attended, _ = attend(chunks([(6, (1, 2), [((6,), 3)])]), *rows_of([answer]), cache)
  np.testing.assert_allclose(attended[0, :6], whole(*both)[3:], atol=1e-5)


def test_rows_on_several_devices_have_their_own_pages():
  """Runs a text of two chunks on each of two devices, with two heads on each of two others."""
  mesh = make_mesh({"data": 2, "tensor": 2}, jax.devices()[:4])
  texts = [text(16, seed) for seed in (3, 4)]
  one = chunks([(8, (1, 2), []), (8, (0, 3), [((1, 2), 8)])], width=2)
  given = jax.tree.map(lambda x: np.concatenate([x, x]), one)
  rows = [np.concatenate([x.reshape(2, 8, *x.shape[1:]) for x in arrays]) for arrays in zip(*texts)]
  cache = tuple(jnp.zeros((2 * PAGES, KV_HEADS, PAGE, SIZE)) for _ in range(2))
  with jax.set_mesh(mesh):
    attended, _ = jax.jit(lambda *args: chunked(args[0])(*args[1:]))(given, *rows, cache)
  for i in range(2):
    np.testing.assert_allclose(attended[2 * i : 2 * i + 2].reshape(16, HEADS, SIZE), whole(*texts[i]), atol=1e-5)
