"""Tests that a request's tokens and logprobs depend, bit for bit, on no slot, order or other request.

This holds at one engine width.
"""

import functools

import jax
import numpy as np
import pytest

from posttrain_jax.sampling import results
from posttrain_jax.types import FinishReason
from tests.sampling.small_engine import CONFIG, by_request, new_engine, params, prompts, shared_engine

COUNT, GROUP = 9, 4
# A part is enough where each setting of the engine compiles its programs.
LONG = [prompt for prompt in prompts(COUNT) if len(prompt.tokens) > 6]
# Engines of other sizes. 13 slots fill no whole vectors. Among 16 answers to a prompt there is room for three prompts.
SMALLEST = dict(slots=4, prefill_width=1, share=3)
UNEVEN = dict(slots=13, prefill_width=8, share=1)
WIDEST = dict(slots=64, prefill_width=8, share=4)
SHARING = dict(slots=6, prefill_width=3, share=16)
SIZES = pytest.mark.parametrize(
  "sizes", [SMALLEST, UNEVEN, WIDEST, SHARING], ids=lambda sizes: f"{sizes['slots']}_slots"
)


@functools.cache
def reference():
  """Answers all requests at once.

  36 answers go through 6 slots, three or one beside each other; prompts have one chunk or two.
  """
  return by_request(shared_engine().generate(prompts(COUNT), GROUP))


def test_the_reference_exercises_what_it_should():
  """Checks that answers have many lengths, end both ways and all differ.

  Otherwise the comparisons below mean nothing.
  """
  lengths = {len(np.frombuffer(answer[0], np.int32)) for answer in reference().values()}
  assert len(lengths) > 5
  assert {answer[3] for answer in reference().values()} == {FinishReason.EOS, FinishReason.LENGTH}
  assert len(set(reference().values())) == COUNT * GROUP


def test_again_on_the_used_engine():
  assert by_request(shared_engine().generate(prompts(COUNT), GROUP)) == reference()


@pytest.mark.parametrize("seed", range(3))
def test_order_and_slot(seed):
  order = np.random.default_rng(seed).permutation(COUNT)
  groups = shared_engine().generate([prompts(COUNT)[i] for i in order], GROUP)
  assert [group.prompt.index for group in groups] == list(order)
  assert by_request(groups) == reference()


def test_alone():
  for prompt in prompts(COUNT):
    for bits in by_request(shared_engine().generate([prompt], GROUP)).items():
      assert reference()[bits[0]] == bits[1]


def test_fewer_and_more_samples_of_the_same_prompt():
  for group_size in (1, 2, 7):
    found = by_request(shared_engine().generate(prompts(COUNT)[2:5], group_size))
    common = found.keys() & reference().keys()
    assert len(common) == 3 * min(group_size, GROUP)
    assert {name: found[name] for name in common} == {name: reference()[name] for name in common}


def test_other_company():
  """Draws the same prompts among others, of other lengths and at other attempts."""
  strangers = [*prompts(COUNT, seed=5, attempt=1), *prompts(3, seed=6, attempt=2)]
  mixed = [prompt for pair in zip(strangers, prompts(COUNT)) for prompt in pair] + strangers[COUNT:]
  found = by_request(shared_engine().generate(mixed, GROUP))
  assert {name: bits for name, bits in found.items() if name[1] == 0} == reference()


def test_prompts_that_arrive_later_join_at_any_dispatch():
  engine = shared_engine()
  waiting, groups = list(prompts(COUNT)), []
  while waiting or engine.busy:
    if waiting:
      engine.submit(waiting.pop(), GROUP)
    groups += engine.step()
  assert by_request(groups) == reference()


@pytest.mark.parametrize("steps", [1, 32])
def test_dispatch_size(steps):
  """Draws one step at a time, and more than the cap; the reference's 4 do not divide the cap of 10."""
  engine = shared_engine(steps_per_dispatch=steps)
  assert by_request(engine.generate(LONG, GROUP)).items() <= reference().items()


def test_after_release_and_unload():
  shared_engine().release()
  assert by_request(shared_engine().generate(prompts(COUNT), GROUP)) == reference()
  params = shared_engine().params
  shared_engine().unload()
  with pytest.raises(RuntimeError, match=r"step before Engine\.load"):
    shared_engine().step()
  shared_engine().load(params, shared_engine().version)
  assert by_request(shared_engine().generate(prompts(COUNT), GROUP)) == reference()


def test_whatever_the_default_generator_is():
  """Sets a default generator whose bits depend on what else a call draws, as `rbg`'s do on TPU."""
  expected = reference()
  with jax.default_prng_impl("rbg"):
    assert by_request(new_engine().generate(LONG, GROUP)).items() <= expected.items()


class Unchecked:
  """Stands in for numpy and takes all numbers for finite."""

  def __getattr__(self, name):
    return getattr(np, name)

  def isfinite(self, x):
    return np.ones(x.shape, bool)


def test_the_cache_of_earlier_parameters_leaves_no_trace(monkeypatch):
  """Loads parameters that make every key and value infinite or NaN, then good ones, without a release."""
  engine = shared_engine()
  engine.load(jax.tree.map(lambda x: x * np.nan, params()), version=4)
  with monkeypatch.context() as patch:
    patch.setattr(results, "np", Unchecked())  # the engine would refuse these logits
    poisoned = engine.generate(prompts(COUNT), GROUP)
  assert np.isnan(poisoned[0].answers[0].sampler_logprobs).all()
  engine.load(params(), version=3)
  assert by_request(engine.generate(prompts(COUNT), GROUP)) == reference()


@SIZES
def test_other_widths_agree_to_rounding(sizes):
  """Compares logprobs up to the first token that differs.

  Rounding moves a draw across an edge only rarely.
  """
  engine = shared_engine(**sizes)
  compared = total = 0
  for name, (tokens, logprobs, _, _) in by_request(engine.generate(LONG, GROUP)).items():
    expected, found = np.frombuffer(reference()[name][0], np.int32), np.frombuffer(tokens, np.int32)
    n = min(len(expected), len(found))
    differ = np.flatnonzero(expected[:n] != found[:n])
    n = differ[0] if differ.size else n
    expected_logprobs = np.frombuffer(reference()[name][1], np.float32)
    np.testing.assert_allclose(np.frombuffer(logprobs, np.float32)[:n], expected_logprobs[:n], atol=1e-5)
    compared, total = compared + n, total + len(expected)
  assert compared > 0.95 * total


def test_seed_and_attempt_change_the_draws():
  engine = shared_engine()
  engine.seed = 1
  other_seed = by_request(engine.generate(prompts(COUNT), GROUP))
  engine.seed = 0
  assert sum(other_seed[name][0] == reference()[name][0] for name in reference()) <= 2
  again = by_request(engine.generate(prompts(COUNT, attempt=1), GROUP))
  assert sum(again[prompt, 1, sample][0] == bits[0] for (prompt, _, sample), bits in reference().items()) <= 2
  assert CONFIG.vocab_size > 50  # else two of 36 answers could well be equal by chance


def test_a_number_of_slots_that_fills_no_whole_vectors():
  """31 of 180 answers differed in a last bit before the cache's rows were rounded up."""
  engine = shared_engine(**UNEVEN)
  forwards = by_request(engine.generate(prompts(COUNT), GROUP))
  assert by_request(engine.generate(prompts(COUNT)[::-1], GROUP)) == forwards


@SIZES
def test_however_many_share_a_prompt(sizes):
  """Lets answers share prompts in different numbers.

  Among 16 other prompts wait although slots are free, and no bit changes.
  """
  engine = shared_engine(**sizes)
  forwards = by_request(engine.generate(LONG, GROUP))
  mixed = [prompt for pair in zip(prompts(COUNT, seed=5, attempt=1), prompts(COUNT)[::-1]) for prompt in pair]
  found = by_request(engine.generate(mixed, GROUP))
  assert forwards.items() <= found.items()
  engine.take_stats()
  engine.generate(mixed, 1)
  assert engine.take_stats().idle_slot_steps > 0.4 * 6 * 10 or sizes != SHARING


@pytest.mark.parametrize("sizes", [SMALLEST, SHARING], ids=["4_slots", "6_slots"])
def test_going_on_with_shared_prompts(sizes):
  """Interrupted answers find their prompt's row again, next to others of their group that have not begun."""
  engine = shared_engine(**sizes)
  runs = []
  for order in (LONG, LONG[::-1]):
    for prompt in order:
      engine.submit(prompt, GROUP)
    engine.step()
    cut = {group.prompt.index: group for group in engine.suspend()}
    engine.resume([cut[prompt.index] for prompt in LONG if prompt.index in cut])
    groups = []
    while engine.busy:
      groups += engine.step()
    runs.append(by_request(groups))
  common = runs[0].keys() & runs[1].keys()
  assert len(common) > GROUP
  whole = by_request(engine.generate(LONG, GROUP))
  assert all(runs[i][name][0] == whole[name][0] for i in range(2) for name in runs[i])
