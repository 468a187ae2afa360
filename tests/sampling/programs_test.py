"""Tests each program by itself, with eight slots."""

import dataclasses
import functools

import jax
import numpy as np

from posttrain_jax.models.transformer import abstract_transformer
from posttrain_jax.sampling import programs
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.state import empty_cache, empty_slots
from tests.models.own_pages import own_pages, page_list
from tests.sampling.small_engine import CONFIG, MAX_NEW, MAX_PROMPT, params

SMALL = dataclasses.replace(CONFIG, num_layers=1, stacked=False)
SLOTS, WIDTH, STEPS, PAGE = 8, 3, 6, 4
OF_ANSWER = OF_PROMPT = 3  # pages
PROMPT_PAGES, PAGES = (24, 25), 27  # the pages of slot s are 3 s to 3 s + 2
PROMPT = np.array([9, 4, 60, 1, 33], np.int32)
STOPS = tuple(range(0, 68, 6))
GRAPH = abstract_transformer(SMALL)[0]

_prefill = jax.jit(functools.partial(programs.prefill, GRAPH))
_recompute = jax.jit(functools.partial(programs.recompute, GRAPH))
_fill = jax.jit(programs.fill)
_decode = jax.jit(functools.partial(programs.decode, GRAPH, steps=STEPS, sampling=SamplingConfig(stop_ids=STOPS)))


@functools.cache
def weights():
  return params(dataclasses.replace(SMALL, stacked=True))


def prefilled(rows):
  """Fills a pool: PROMPT's keys and values at rows[0], those of other prompts at rows[1] and rows[2]."""
  tokens = np.random.default_rng(0).integers(0, 68, (WIDTH, MAX_PROMPT)).astype(np.int32)
  tokens[0, : len(PROMPT)] = PROMPT
  pool = empty_cache(SMALL, WIDTH * OF_PROMPT, PAGE)
  return jax.device_get(_prefill(weights(), pool, tokens, np.array(rows, np.int32)))


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
  into, sources = np.array([*PROMPT_PAGES, PAGES], np.int32), np.array([6, 7, 0], np.int32)  # the last is out of range
  cache, pool = empty_cache(SMALL, PAGES, PAGE), prefilled([2, 0, 1])
  return jax.device_get(_fill(cache, empty_slots(SLOTS), pool, into, sources, indices, new, np.uint32(0), requests))


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


def test_prefill_writes_the_rows_that_it_is_told_and_drops_those_out_of_range():
  pool, others = prefilled([2, 0, WIDTH]), prefilled([0, WIDTH, WIDTH])
  for leaf, other in zip(jax.tree.leaves(pool), jax.tree.leaves(others)):
    rows, other = (x.reshape(WIDTH, OF_PROMPT, *x.shape[1:]) for x in (leaf, other))
    assert np.all(np.abs(rows[[0, 2]]).sum((2, 4)) > 0)
    assert not rows[1].any() and not other[1:].any()
    np.testing.assert_array_equal(rows[2], other[0])  # the same bits in another row


def test_fill_copies_prompts_and_sets_slots():
  cache, slots = filled([(7, 0, 0)], [5])
  for leaf, source in zip(jax.tree.leaves(cache), jax.tree.leaves(prefilled([2, 0, 1]))):
    np.testing.assert_array_equal(leaf[list(PROMPT_PAGES)], source[6:8])
    assert not leaf[: PROMPT_PAGES[0]].any() and not leaf[PAGES - 1].any()
  np.testing.assert_array_equal(slots.active, np.arange(SLOTS) == 5)
  assert (slots.token[5], slots.position[5], slots.limit[5]) == (33, 4, MAX_NEW)


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


def test_recompute_makes_the_keys_and_values_that_decoding_left():
  _, _, (cache, after, drawn) = eight_samples()
  slot = int(np.argmax(after.active))
  sequence = np.concatenate([PROMPT, drawn.tokens[:, slot]])
  tokens = np.zeros((WIDTH, 16), np.int32)
  tokens[1, : len(sequence) - 1] = sequence[:-1]  # the newest token is not in the cache
  starts, pages = np.array([0, len(PROMPT) - 1, 0], np.int32), np.full((WIDTH, OF_ANSWER), PAGES, np.int32)
  pages[1, :2] = own = [3 * slot, 3 * slot + 1]  # six tokens
  again = jax.device_get(_recompute(weights(), empty_cache(SMALL, PAGES, PAGE), tokens, starts, pages))
  for left, made in zip(jax.tree.leaves(cache), jax.tree.leaves(again)):
    first, second = (np.concatenate(list(x[own]), axis=1)[:, :STEPS] for x in (left, made))
    np.testing.assert_allclose(first, second, atol=1e-5)
    assert np.all(np.abs(second).sum((0, 2)) > 0)
    assert not np.delete(made, own, axis=0).any()


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


def joined(cache):
  """Puts keys and values into one array, as they lie on a TPU."""
  return [(np.concatenate(layer, axis=-1),) for layer in jax.device_get(cache)]


def test_a_cache_of_one_array_is_filled_and_read_alike():
  """Prefills, recomputes and decodes; the kernel that reads such a cache is interpreted."""
  cache, slots, (after, _, drawn) = eight_samples()
  found, _, again = decoded(joined(cache), slots)
  np.testing.assert_array_equal(again.tokens, drawn.tokens)
  np.testing.assert_allclose(again.sampler_logprobs, drawn.sampler_logprobs, atol=1e-5)
  np.testing.assert_allclose(found[0][0], joined(after)[0][0], atol=1e-5)

  tokens = np.tile(np.arange(MAX_PROMPT, dtype=np.int32), (WIDTH, 1))
  rows, starts, pages = (
    np.arange(WIDTH, dtype=np.int32),
    np.ones(WIDTH, np.int32),
    np.zeros((WIDTH, OF_ANSWER), np.int32),
  )
  pages[:] = np.arange(WIDTH * OF_ANSWER).reshape(pages.shape)
  for program, *arguments in ((_prefill, tokens, rows), (_recompute, tokens, starts, pages)):
    one, two = (
      jax.device_get(program(weights(), empty_cache(SMALL, WIDTH * OF_PROMPT, PAGE, joined=each), *arguments))
      for each in (True, False)
    )
    np.testing.assert_array_equal(one[0][0], joined(two)[0][0])
    assert one[0][0].any()
