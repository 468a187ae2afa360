"""Tests answers that leave the engine unfinished and go on later.

They go on elsewhere and under other parameters.
"""

import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest

from posttrain_jax.types import FinishReason
from tests.sampling.small_engine import (
  CONFIG,
  by_request,
  learner_logits,
  new_engine,
  padded,
  params,
  prompts,
)

SMALL = dataclasses.replace(CONFIG, num_layers=1)
COUNT, GROUP = 7, 3
# Long enough for two buckets of resumed lengths, 32 and 64.
LONG = dict(max_new_tokens=52, stop_ids=(5, 17))


@functools.cache
def engine():
  return new_engine(SMALL, **LONG)


@pytest.fixture(autouse=True)
def idle():
  yield
  assert not engine().busy


def interrupt(engine, dispatches, count=COUNT):
  """Returns (groups finished before, groups suspended)."""
  for prompt in prompts(count):
    engine.submit(prompt, GROUP)
  finished = [group for _ in range(dispatches) for group in engine.step()]
  return finished, engine.suspend()


def finish(engine, suspended, *, others=()):
  engine.resume(suspended)
  for prompt in others:
    engine.submit(prompt, GROUP)
  groups = []
  while engine.busy:
    groups += engine.step()
  return groups


@functools.cache
def suspended():
  return interrupt(engine(), 9)[1]


@functools.cache
def resumed():
  return by_request(finish(engine(), suspended()))


def answers(groups):
  return {(group.prompt.index, sample): answer for group in groups for sample, answer in enumerate(group.answers)}


def test_what_is_suspended_is_worth_going_on_with():
  found = answers(suspended()).values()
  assert {answer.finish_reason for answer in found} == {FinishReason.SUSPENDED, FinishReason.EOS}
  begun = [len(answer.tokens) for answer in found if answer.finish_reason == FinishReason.SUSPENDED]
  lengths = {len(group.prompt.tokens) + n for group in suspended() for n in begun}
  assert 0 in begun and min(lengths) <= 32 < max(lengths)  # some wait in the queue; resumed in two buckets
  assert [group.prompt.index for group in suspended()] == sorted(group.prompt.index for group in suspended())


@pytest.mark.parametrize("dispatches", [1, 2, 4, 9])
def test_under_the_same_parameters_it_is_the_answer_that_it_would_have_been(dispatches):
  whole = answers(engine().generate(prompts(COUNT), GROUP))
  finished, cut = interrupt(engine(), dispatches)
  found = answers(finished + finish(engine(), cut))
  assert found.keys() == whole.keys()
  for name, answer in found.items():
    np.testing.assert_array_equal(answer.tokens, whole[name].tokens)
    np.testing.assert_allclose(answer.sampler_logprobs, whole[name].sampler_logprobs, atol=1e-5)
    np.testing.assert_allclose(answer.drawn_logprobs, whole[name].drawn_logprobs, atol=1e-5)
    assert answer.finish_reason == whole[name].finish_reason
  for name, answer in answers(cut).items():  # and nothing that was drawn before is touched
    n = len(answer.tokens)
    assert found[name].sampler_logprobs[:n].tobytes() == answer.sampler_logprobs.tobytes()
    assert whole[name].sampler_logprobs[:n].tobytes() == answer.sampler_logprobs.tobytes()


def test_again():
  assert by_request(finish(engine(), suspended())) == resumed()


@pytest.mark.parametrize("seed", range(3))
def test_order_and_slot(seed):
  order = np.random.default_rng(seed).permutation(len(suspended()))
  assert by_request(finish(engine(), [suspended()[i] for i in order])) == resumed()


def test_alone():
  for group in suspended():
    found = by_request(finish(engine(), [group]))
    assert found == {name: resumed()[name] for name in found}


def test_other_company():
  """Continues answers at any row of the prefill, in any slot, next to answers that start."""
  strangers = interrupt(engine(), 3)[1]
  strangers = [dataclasses.replace(group, prompt=dataclasses.replace(group.prompt, attempt=1)) for group in strangers]
  mixed = [group for pair in itertools.zip_longest(strangers, suspended()) for group in pair if group is not None]
  found = by_request(finish(engine(), mixed, others=prompts(3, attempt=2)))
  assert {name: bits for name, bits in found.items() if name[1] == 0} == resumed()


def test_an_engine_with_other_slots_free():
  """Checks answers that come back next to others, which decide which slots they get, and when."""
  busy = engine()
  for prompt in prompts(4, attempt=3):
    busy.submit(prompt, 1)
  busy.step()
  found = by_request(finish(busy, suspended()))
  assert {name: bits for name, bits in found.items() if name[1] == 0} == resumed()


def test_interrupted_at_every_dispatch():
  """Interrupts at every dispatch: two runs have the same bits, and the tokens of an uninterrupted run."""
  runs = []
  for _ in range(2):
    groups, cut = interrupt(engine(), 1)
    while cut:
      engine().resume(cut)
      groups += engine().step()
      cut = engine().suspend()
    runs.append(by_request(groups))
  assert runs[0] == runs[1]
  whole = by_request(engine().generate(prompts(COUNT), GROUP))
  assert {name: bits[0] for name, bits in runs[0].items()} == {name: bits[0] for name, bits in whole.items()}


def test_the_rest_is_drawn_under_the_new_parameters():
  engine().load(jax.tree.map(lambda x: x * 1.25, params(SMALL)), version=2)
  _, cut = interrupt(engine(), 1)
  engine().load(params(SMALL), version=3)
  groups = sorted(finish(engine(), cut), key=lambda group: group.prompt.index)
  tokens, lengths, drawn = padded(groups, cap=LONG["max_new_tokens"])
  logits = learner_logits(SMALL, tokens, lengths, drawn)
  expected = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), drawn[..., None], -1)[..., 0]
  before = answers(cut)
  continued = 0
  for i, group in enumerate(groups):
    for sample, answer in enumerate(group.answers):
      begun = before[group.prompt.index, sample]
      n = len(begun.tokens)
      old = 2 if begun.finish_reason != FinishReason.SUSPENDED or n else 3
      np.testing.assert_array_equal(answer.versions, [old] * n + [3] * (len(answer.tokens) - n))
      rest = slice(n, len(answer.tokens))
      np.testing.assert_allclose(answer.sampler_logprobs[rest], expected[i, sample, rest], atol=1e-5)
      continued += 0 < n < len(answer.tokens)
  assert continued >= 3


def test_a_suspended_engine_is_idle():
  engine().take_stats()
  _, cut = interrupt(engine(), 2)
  assert not engine().busy and engine().free_slots == 6
  engine().load(params(SMALL), version=3)
  engine().release()
  before = engine().take_stats()
  groups = finish(engine(), cut)
  stats = engine().take_stats()
  assert before.recomputed_tokens == 0
  begun = [
    len(answer.tokens)  # the prompt's last token and all but the newest
    for group in cut
    for answer in group.answers
    if answer.finish_reason == FinishReason.SUSPENDED and len(answer.tokens)
  ]
  assert stats.recomputed_tokens == sum(begun) > 0
  assert before.generated_tokens + stats.generated_tokens == sum(int(group.lengths.sum()) for group in groups)


def test_free_slots():
  for submitted, free in ((0, 6), (1, 3), (2, 0), (3, 0)):
    cut = interrupt(engine(), 0, submitted)[1]
    engine().resume(cut)
    assert engine().free_slots == free
    engine().suspend()


def test_what_is_resumed_can_be_suspended_again_and_not_resumed_twice():
  engine().resume(suspended())
  with pytest.raises(ValueError, match="is under way already"):
    engine().resume(suspended())
  again = engine().suspend()
  assert not engine().busy
  assert answers(again).keys() == answers(suspended()).keys()
  for name, answer in answers(again).items():
    np.testing.assert_array_equal(answer.tokens, answers(suspended())[name].tokens)
    assert answer.finish_reason == answers(suspended())[name].finish_reason
