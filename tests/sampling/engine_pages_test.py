"""Tests an engine whose pages run out: nothing is lost, no answer changes, and it ends."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.types import InputError
from tests.sampling.small_engine import CONFIG, PAGE, by_request, new_engine, prompts

SMALL = dataclasses.replace(CONFIG, num_layers=1)
COUNT, GROUP = 7, 3
LONG = dict(max_new_tokens=52, stop_ids=(5, 17))
LEAST = 3 + 13  # pages of a prompt of 12 tokens and an answer of 52


@functools.cache
def roomy():
  """Returns all answers and the counts of an engine with room for everything."""
  engine = new_engine(SMALL, **LONG)
  return by_request(engine.generate(prompts(COUNT), GROUP)), engine.take_stats()


@functools.cache
def crowded(pages=LEAST):
  return new_engine(SMALL, cache_tokens=pages * PAGE, **LONG)


def test_pages_in_use_follow_the_live_tokens():
  stats = roomy()[1]
  assert stats.preemptions == 0
  assert stats.most_live_tokens <= stats.most_paged_tokens <= 1.4 * stats.most_live_tokens
  assert stats.most_paged_tokens < 0.8 * 6 * 52  # caps alone would take 312 tokens


def test_no_answer_changes_when_answers_have_to_wait():
  engine = crowded()
  assert by_request(engine.generate(prompts(COUNT), GROUP)) == roomy()[0]
  stats = engine.take_stats()
  assert stats.preemptions > 3 and stats.recomputed_tokens == 0
  assert stats.generated_tokens == roomy()[1].generated_tokens
  assert stats.most_paged_tokens <= LEAST * PAGE


def test_a_pool_of_what_was_in_use_at_the_peak_is_enough():
  pages = roomy()[1].most_paged_tokens // PAGE
  assert by_request(crowded(pages).generate(prompts(COUNT), GROUP)) == roomy()[0]


def test_other_company_while_pages_run_out():
  mixed = [each for pair in zip(prompts(COUNT, seed=5, attempt=1), prompts(COUNT)[::-1]) for each in pair]
  found = by_request(crowded().generate(mixed, GROUP))
  assert {name: bits for name, bits in found.items() if name[1] == 0} == roomy()[0]


def test_answers_that_wait_for_pages_can_be_suspended():
  engine = crowded()
  engine.take_stats()
  for prompt in prompts(COUNT):
    engine.submit(prompt, GROUP)
  groups = []
  while not engine.stats.preemptions:
    groups += engine.step()
  engine.resume(engine.suspend())
  while engine.busy:
    groups += engine.step()
  found = by_request(groups)
  assert {name: bits[0] for name, bits in found.items()} == {name: bits[0] for name, bits in roomy()[0].items()}


def test_each_device_has_its_own_pages():
  """Runs on two devices with the fewest pages that each may have, and beside it with room for everything."""
  mesh = make_mesh({"data": 2}, jax.devices()[:2])
  few, many = (new_engine(SMALL, mesh=mesh, cache_tokens=tokens, **LONG) for tokens in (2 * LEAST * PAGE, None))
  assert by_request(few.generate(prompts(COUNT), GROUP)) == by_request(many.generate(prompts(COUNT), GROUP))
  assert few.take_stats().preemptions > 0


@pytest.mark.parametrize("longest", [1, 9])
def test_prompts_whose_last_token_begins_a_page(longest):
  """The last token is not in the prompt's pages. So a prompt of 9 tokens fills two pages, and one of 1 token none."""
  engine = new_engine(SMALL, max_prompt_length=longest, cache_tokens=12 + 3 * PAGE, max_new_tokens=12)
  found = engine.generate(prompts(3, longest=longest), 2)
  assert by_request(found) == by_request(engine.generate(prompts(3, longest=longest)[::-1], 2))


def test_a_pool_that_cannot_hold_one_answer_is_refused():
  with pytest.raises(InputError, match=rf"rollout\.cache_tokens: 60, expected at least {LEAST * PAGE}: on each of 1 "):
    new_engine(SMALL, cache_tokens=60, **LONG)


def test_a_cap_does_not_change_the_memory_of_a_given_pool():
  short, long = (new_engine(SMALL, cache_tokens=400, max_new_tokens=cap) for cap in (50, 380))
  assert short._device.cache_bytes == long._device.cache_bytes == 400 * 2 * 2 * 8 * np.dtype(np.float32).itemsize


def test_an_answers_own_cap():
  caps = {(prompt, sample): 1 + (3 * prompt + sample) % 11 for prompt in range(COUNT) for sample in range(GROUP)}
  limit_of = lambda prompt, sample: caps[prompt.index, sample]  # noqa: E731
  engine = new_engine(SMALL, limit_of=limit_of, stop_ids=())
  for group in engine.generate(prompts(COUNT), GROUP):
    assert [len(answer.tokens) for answer in group.answers] == [
      min(10, caps[group.prompt.index, sample]) for sample in range(GROUP)
    ]
