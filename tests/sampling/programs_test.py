"""Tests each program by itself, with eight slots."""

import dataclasses
import functools

import jax
import numpy as np

from posttrain_jax.models.chunk_attention import Chunks
from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.sampling import programs
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.state import empty_cache, empty_slots
from tests.models.own_pages import own_pages, page_list
from tests.sampling.small_engine import CONFIG, MAX_NEW, params

SMALL = dataclasses.replace(CONFIG, num_layers=1, stacked=False)
SLOTS, WIDTH, CHUNK, STEPS, PAGE = 8, 3, 8, 6, 4
OF_ANSWER = 3  # pages
PROMPT_PAGES, PAGES = (24, 25), 27  # the pages of slot s are 3 s to 3 s + 2
PROMPT = np.array([9, 4, 60, 1, 33], np.int32)
STOPS = tuple(range(0, 68, 6))
GRAPH = abstract_transformer(SMALL)[0]

_prefill = jax.jit(functools.partial(programs.prefill, GRAPH))
_begin = jax.jit(programs.begin)
_decode = jax.jit(functools.partial(programs.decode, GRAPH, steps=STEPS, sampling=SamplingConfig(stop_ids=STOPS)))


@functools.cache
def weights():
  return params(dataclasses.replace(SMALL, stacked=True))


def prefill(cache, rows):
  """Prefills up to three chunks, each (tokens, start, pages to write, [(pages, tokens) of each earlier chunk])."""
  tokens, written = np.zeros((WIDTH, CHUNK), np.int32), np.full((WIDTH, 2), PAGES, np.int32)
  counts, starts = np.zeros((2, WIDTH), np.int32)
  owners, seen, earlier = np.zeros(6, np.int32), np.zeros(6, np.int32), np.zeros((6, 2), np.int32)
  count = 0
  for row, (text, start, pages, before) in enumerate(rows):
    tokens[row, : len(text)], counts[row], starts[row] = text, len(text), start
    written[row, : len(pages)] = pages
    for of_chunk, number in before:
      owners[count], seen[count], earlier[count, : len(of_chunk)] = row, number, of_chunk
      count += 1
  chunks = Chunks(tokens, counts, starts, written, owners, earlier, seen, np.array([count], np.int32))
  return jax.device_get(_prefill(weights(), cache, chunks))


def filled(requests, indices):
  """Returns (cache, slots) after requests (prompt, sample, attempt) began to answer PROMPT.

  Programs have one shape: there are eight requests always, which the last ones fill up; their slots are out of range.
  """
  missing = SLOTS - len(requests)
  requests = np.array([*requests, *[(0, 0, 0)] * missing], np.int32)
  indices = np.array([*indices, *[SLOTS] * missing], np.int32)
  same = lambda value: np.full(SLOTS, value, np.int32)  # noqa: E731
  new = dataclasses.replace(
    empty_slots(SLOTS),
    token=same(PROMPT[-1]),
    position=same(len(PROMPT) - 1),
    drawn=same(0),
    limit=same(MAX_NEW),
    active=np.ones(SLOTS, bool),
  )
  slots = jax.device_get(_begin(empty_slots(SLOTS), indices, new, np.uint32(0), requests))
  return prefill(empty_cache(SMALL, PAGES, PAGE), [(PROMPT[:-1], 0, PROMPT_PAGES[:1], [])]), slots


def reads():
  """Lists three pages of each slot, and the prompt that they all read."""
  own = own_pages(SLOTS, OF_ANSWER)
  return dataclasses.replace(
    own,
    prompts=page_list([(0, list(PROMPT_PAGES))]),
    prompt_lengths=np.array([len(PROMPT) - 1], np.int32),
    readers=np.arange(SLOTS, dtype=np.int32),
    lanes=np.arange(SLOTS, dtype=np.int32),
  )


def decoded(cache, slots):
  """Runs one dispatch and returns (cache, slots, what was drawn)."""
  cache, slots, drawn, active = jax.device_get(_decode(weights(), cache, slots, reads()))
  np.testing.assert_array_equal(active, slots.active)
  return cache, slots, drawn


@functools.cache
def eight_samples():
  """Returns cache and slots before a dispatch, and its results.

  There are eight samples in the order of the slots.
  """
  cache, slots = filled([(7, sample, 0) for sample in range(SLOTS)], range(SLOTS))
  return cache, slots, decoded(cache, slots)


def test_prefill_writes_the_pages_that_it_is_told_and_no_others():
  """A chunk of five tokens fills a page and a token of the next one. The rest of that page becomes zeros."""
  dirty = jax.tree.map(lambda x: x + np.nan, empty_cache(SMALL, PAGES, PAGE))
  for leaf in jax.tree.leaves(prefill(dirty, [(PROMPT, 0, (7, 3), []), ([4], 0, (5,), [])])):
    assert np.all(np.abs(leaf[7]).sum((0, 2)) > 0) and np.all(np.abs(leaf[[3, 5], :, :1]).sum((1, 3)) > 0)
    assert not leaf[[3, 5], :, 1:].any()
    assert np.isnan(np.delete(leaf, [3, 5, 7], axis=0)).all()


def test_a_row_has_the_same_bits_in_any_place_and_call():
  """Runs a text of three chunks in one call, and in two calls beside another text."""
  text, other = np.arange(20) * 7 % 68, np.arange(8)
  pages = [(1, 2), (3, 4), (5, 6)]
  first, second, third = (
    (text[8 * i : 8 * i + 8], 8 * i, pages[i], [(each, 8) for each in pages[:i]]) for i in range(3)
  )
  empty = empty_cache(SMALL, PAGES, PAGE)
  once = prefill(empty, [first, second, third])
  again = prefill(empty, [(other, 0, (9, 10), []), first])
  again = prefill(again, [second, (other, 8, (11, 12), [((9, 10), 8)]), third])
  for leaf, same in zip(jax.tree.leaves(once), jax.tree.leaves(again)):
    np.testing.assert_array_equal(leaf[1:6], same[1:6])
    assert np.all(np.abs(leaf[1:6]).sum((1, 3)) > 0)


def test_begin_sets_slots():
  _, slots = filled([(7, 0, 0)], [5])
  np.testing.assert_array_equal(slots.active, np.arange(SLOTS) == 5)
  assert (slots.token[5], slots.position[5], slots.limit[5]) == (33, 4, MAX_NEW)


def test_what_an_earlier_owner_left_changes_nothing():
  """Fills all pages but the prompt's with NaN before a dispatch."""
  cache, slots, (_, _, drawn) = eight_samples()
  kept = np.isin(np.arange(PAGES), PROMPT_PAGES)[:, None, None, None]
  dirty = jax.tree.map(lambda x: np.where(kept, x, np.nan), cache)
  _, _, found = decoded(dirty, slots)
  for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(drawn)):
    np.testing.assert_array_equal(one, other)


def test_a_requests_key_depends_on_prompt_sample_and_attempt_and_not_on_its_slot():
  _, slots = filled([(7, 0, 0), (8, 0, 0), (7, 1, 0), (7, 0, 1), (7, 0, 0)], [4, 3, 2, 1, 0])
  assert len({slots.key[slot].tobytes() for slot in (1, 2, 3, 4)}) == 4
  np.testing.assert_array_equal(slots.key[0], slots.key[4])


def test_answers_end_at_a_stop_id_and_go_on_otherwise():
  _, _, (_, after, drawn) = eight_samples()
  ended = 0
  for slot in range(SLOTS):
    count = int(drawn.active[:, slot].sum())
    assert drawn.active[:count, slot].all() and not set(drawn.tokens[: count - 1, slot]) & set(STOPS)
    stopped = drawn.tokens[count - 1, slot] in STOPS
    assert after.active[slot] == (not stopped)
    assert stopped or count == drawn.steps
    ended += stopped
  assert 0 < ended < SLOTS and drawn.steps == STEPS


def test_the_state_follows_the_answer():
  _, before, (_, after, drawn) = eight_samples()
  going_on = after.active
  np.testing.assert_array_equal(after.drawn[going_on], STEPS)
  np.testing.assert_array_equal(after.position[going_on], len(PROMPT) - 1 + STEPS)
  np.testing.assert_array_equal(after.token[going_on], drawn.tokens[-1, going_on])
  np.testing.assert_array_equal(after.key, before.key)


def test_prefill_makes_the_keys_and_values_that_decoding_left():
  """Prefills a prompt and the answer to it in one call; the answer's first chunk sees the prompt's four tokens."""
  _, _, (cache, after, drawn) = eight_samples()
  slot = int(np.argmax(after.active))
  answer = np.concatenate([PROMPT[-1:], drawn.tokens[:-1, slot]])  # the newest token is not in the cache
  own = (3 * slot, 3 * slot + 1)  # six tokens
  prompt = (PROMPT[:-1], 0, PROMPT_PAGES[:1], [])
  again = prefill(empty_cache(SMALL, PAGES, PAGE), [prompt, (answer, len(PROMPT) - 1, own, [(PROMPT_PAGES[:1], 4)])])
  for left, made in zip(jax.tree.leaves(cache), jax.tree.leaves(again)):
    first, second = (np.concatenate(list(x[list(own)]), axis=1)[:, :STEPS] for x in (left, made))
    np.testing.assert_allclose(first, second, atol=1e-5)
    assert np.all(np.abs(second).sum((0, 2)) > 0)
    assert not np.delete(made, [*own, PROMPT_PAGES[0]], axis=0).any()


def test_the_cap_ends_answers_and_the_loop():
  cache, slots, (_, _, whole) = eight_samples()
  cap = dataclasses.replace(slots, limit=np.array([1, 2, 3, 4] * 2, np.int32))
  _, after, drawn = decoded(cache, cap)
  counts = np.minimum(whole.active.sum(0), cap.limit)
  np.testing.assert_array_equal(drawn.active.sum(0), counts)
  assert drawn.steps == counts.max() < STEPS and not after.active.any()
  for slot, count in enumerate(counts):
    np.testing.assert_array_equal(drawn.tokens[:count, slot], whole.tokens[:count, slot])
    np.testing.assert_array_equal(drawn.sampler_logprobs[:count, slot], whole.sampler_logprobs[:count, slot])


def test_empty_slots_run_no_step():
  cache, _, drawn = decoded(empty_cache(SMALL, PAGES, PAGE), empty_slots(SLOTS))
  assert drawn.steps == 0 and not drawn.active.any()
  assert not any(leaf.any() for leaf in jax.tree.leaves(cache))


def test_pages_are_read_and_written_back_as_they_were():
  cache, _, _ = eight_samples()
  taken = jax.device_get(jax.jit(programs.take)(cache, np.array([24, 25, PAGES], np.int32)))
  again = jax.device_get(
    jax.jit(programs.put)(empty_cache(SMALL, PAGES, PAGE), np.array([3, PAGES, 1], np.int32), taken)
  )
  for leaf, source in zip(jax.tree.leaves(again), jax.tree.leaves(cache)):
    np.testing.assert_array_equal(leaf[3], source[24])
    assert not leaf[[0, 2, *range(4, PAGES)]].any()


def test_pages_are_copied():
  cache, _, _ = eight_samples()
  copied = jax.device_get(jax.jit(programs.copy)(cache, np.array([24, 24], np.int32), np.array([25, PAGES], np.int32)))
  for leaf, source in zip(jax.tree.leaves(copied), jax.tree.leaves(cache)):
    np.testing.assert_array_equal(leaf[25], source[24])
    np.testing.assert_array_equal(leaf[:25], source[:25])
    assert source[24].any()


def joined(cache):
  """Puts keys and values into one array, as they lie on a TPU."""
  return [(np.concatenate(layer, axis=-1),) for layer in jax.device_get(cache)]


def test_a_cache_of_one_array_is_filled_and_read_alike():
  """Prefills and decodes; the kernel that reads such a cache is interpreted."""
  cache, slots, (after, _, drawn) = eight_samples()
  found, _, again = decoded(joined(cache), slots)
  np.testing.assert_array_equal(again.tokens, drawn.tokens)
  np.testing.assert_allclose(again.sampler_logprobs, drawn.sampler_logprobs, atol=1e-5)
  np.testing.assert_allclose(found[0][0], joined(after)[0][0], atol=1e-5)

  text = np.arange(16) * 7 % 68
  rows = [(text[:8], 0, (1, 2), []), (text[8:], 8, (3, 4), [((1, 2), 8)])]
  one, two = (prefill(empty_cache(SMALL, PAGES, PAGE, joined=each), rows) for each in (True, False))
  np.testing.assert_array_equal(one[0][0], joined(two)[0][0])
  assert one[0][0][1:5].any()
