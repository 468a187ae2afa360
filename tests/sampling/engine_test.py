"""Tests what the engine accepts and returns.

Tested are records, stops and caps, counts, errors, compiled programs and donation.
"""

import dataclasses
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax import compiled_once
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.engine import Engine
from posttrain_jax.sampling.sizes import Sizes
from posttrain_jax.types import FinishReason, InputError, NotFinite, Prompt
from tests.sampling.small_engine import CONFIG, MAX_NEW, STOPS, by_request, new_engine, params, prompts

COMPARES_BITS = False
SMALL = dataclasses.replace(CONFIG, num_layers=1)


@pytest.fixture(scope="module")
def engine():
  """Makes an engine of one layer, for tests that do not depend on values."""
  return new_engine(SMALL)


@pytest.fixture(autouse=True)
def idle_and_counting_from_zero(engine):
  engine.take_stats()
  yield
  assert not engine.busy


def test_answers_are_records_of_their_own_length(engine):
  groups = engine.generate(prompts(7), 3)
  assert [group.prompt for group in groups] == prompts(7)
  seen = set()
  for group in groups:
    assert len(group.answers) == 3
    for answer in group.answers:
      n = len(answer.tokens)
      assert 1 <= n <= MAX_NEW
      fields = (answer.tokens, answer.sampler_logprobs, answer.drawn_logprobs, answer.versions)
      assert [x.dtype for x in fields] == [np.int32, np.float32, np.float32, np.int32]
      assert {x.shape for x in fields} == {(n,)}
      assert not set(answer.tokens[:-1]) & set(STOPS)
      assert answer.finish_reason == (FinishReason.EOS if answer.tokens[-1] in STOPS else FinishReason.LENGTH)
      assert answer.finish_reason == FinishReason.EOS or n == MAX_NEW
      assert np.all(answer.sampler_logprobs <= 0) and np.all((answer.tokens >= 0) & (answer.tokens < 68))
      np.testing.assert_array_equal(answer.sampler_logprobs, answer.drawn_logprobs)
      np.testing.assert_array_equal(answer.versions, 3)
      seen.add((int(answer.tokens[-1]), answer.finish_reason))
  assert len({token for token, reason in seen if reason == FinishReason.EOS}) > 2  # several stop ids stop


def test_versions_follow_the_parameters(engine):
  engine.load(params(SMALL), version=8)
  assert {int(v) for answer in engine.generate(prompts(2), 2)[0].answers for v in answer.versions} == {8}
  engine.load(params(SMALL), version=3)


def test_group_size_one_and_no_prompts(engine):
  assert [len(group.answers) for group in engine.generate(prompts(3), 1)] == [1, 1, 1]
  assert engine.generate([], 4) == []


def test_no_stop_ids_runs_to_the_cap_and_the_cap_may_be_one():
  engine = new_engine(SMALL, stop_ids=(), max_new_tokens=1)
  answers = [answer for group in engine.generate(prompts(9), 2) for answer in group.answers]
  assert {(len(answer.tokens), answer.finish_reason) for answer in answers} == {(1, FinishReason.LENGTH)}


def test_a_stop_id_drawn_at_the_cap_is_a_stop():
  engine = new_engine(SMALL, stop_ids=tuple(range(0, 68, 2)), max_new_tokens=2, prefill_width=1)
  answers = [answer for group in engine.generate(prompts(1), 40) for answer in group.answers]
  at_cap = [answer for answer in answers if len(answer.tokens) == 2]
  reasons = {answer.finish_reason for answer in at_cap}
  assert reasons == {FinishReason.EOS, FinishReason.LENGTH}
  assert all((answer.finish_reason == FinishReason.EOS) == (answer.tokens[-1] % 2 == 0) for answer in at_cap)
  assert all(answer.finish_reason == FinishReason.EOS for answer in answers if len(answer.tokens) == 1)


@pytest.mark.parametrize("group", [1, 3, 8])
def test_counts_add_up(engine, group):
  groups = engine.generate(prompts(5), group)
  stats = engine.take_stats()
  assert stats.generated_tokens == sum(int(group.lengths.sum()) for group in groups)
  assert stats.prefill_tokens == sum(len(prompt.tokens) - 1 for prompt in prompts(5))  # once a prompt, not a sample
  assert stats.slot_steps == 6 * stats.decode_steps
  assert stats.slot_steps == stats.generated_tokens + stats.idle_slot_steps
  assert stats.decode_steps <= 4 * stats.dispatches
  assert engine.stats.generated_tokens == 0


def test_suspended_tokens_are_counted_and_empty_dispatches_are_not_run(engine):
  for prompt in prompts(4):
    engine.submit(prompt, 2)
  groups = engine.step()
  suspended = engine.suspend()
  stats = engine.take_stats()
  assert stats.generated_tokens == sum(int(group.lengths.sum()) for group in [*groups, *suspended])
  assert stats.decode_steps == 4 and not engine.busy
  assert engine.step() == []  # nothing to do
  assert engine.take_stats().decode_steps == 0


def test_suspending_what_has_not_begun_gives_empty_answers(engine):
  assert engine.suspend() == []
  engine.submit(prompts(2)[0], 2)
  (group,) = engine.suspend()
  assert [answer.finish_reason for answer in group.answers] == [FinishReason.SUSPENDED] * 2
  assert [len(answer.tokens) for answer in group.answers] == [0, 0]


def test_a_group_is_returned_when_its_last_answer_ends(engine):
  for prompt in prompts(6):
    engine.submit(prompt, 4)
  sizes = []
  while engine.busy:
    sizes.append(len(engine.step()))
  assert sum(sizes) == 6 and len([size for size in sizes if size]) > 1


def test_short_and_long_prompts_by_turns(engine):
  """Queues prompts of one and of two chunks, so that long ones are cut in the middle of a prefill of three chunks."""
  short, long = (1, 2), tuple(range(12))
  mixed = [Prompt(index, short if index % 2 else long, {}) for index in range(20)]
  groups = engine.generate(mixed, 7)
  assert [group.prompt.index for group in groups] == list(range(20))
  assert by_request(engine.generate(mixed[:2], 7)).items() <= by_request(groups).items()


def test_prompts_that_do_not_fit_are_refused(engine):
  with pytest.raises(InputError, match=r"prompt 4: 13 tokens, expected 1 to 12 \(rollout.max_prompt_length\)"):
    engine.submit(Prompt(4, (1,) * 13, {}), 1)
  with pytest.raises(InputError, match="prompt 4: 0 tokens"):
    engine.submit(Prompt(4, (), {}), 1)
  with pytest.raises(InputError, match=r"rollout.group_size: 0"):
    engine.submit(prompts(1)[0], 0)
  assert not engine.busy


def test_what_may_not_happen_under_way(engine):
  engine.submit(prompts(1)[0], 2)
  with pytest.raises(ValueError, match="prompt 0 is under way already at attempt 0"):
    engine.submit(prompts(1)[0], 2)
  for call in (lambda: engine.load(params(SMALL), 4), engine.release, lambda: engine.generate(prompts(2)[1:], 1)):
    with pytest.raises(RuntimeError, match="while answers are under way"):
      call()
  engine.suspend()


def test_stepping_without_parameters_says_so():
  bare = Engine(SMALL, SamplingConfig(), Sizes(slots=2, max_prompt_length=4, max_new_tokens=2), seed=0)
  with pytest.raises(RuntimeError, match=r"before Engine\.load"):
    bare.generate([Prompt(0, (1,), {})], 1)


def test_slots_have_to_divide_over_the_mesh():
  mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
  with pytest.raises(InputError, match=r"rollout\.slots: 6 slots do not divide over data x fsdp = 4 shards"):
    new_engine(SMALL, mesh=mesh)


def test_a_reward_model_is_refused():
  with pytest.raises(InputError, match="model: is a reward model, expected a language model"):
    new_engine(dataclasses.replace(SMALL, scalar_head=True))


def test_a_bounded_number_of_programs_and_none_the_second_time(caplog):
  compiled_once.forget()  # what other tests compiled
  engine = new_engine(SMALL, slots=5, prefill_width=2)

  def compiled(names, run):
    caplog.clear()
    with caplog.at_level(logging.WARNING), jax.log_compiles():
      run()
    found = [record.getMessage() for record in caplog.records if "Finished XLA compilation" in record.getMessage()]
    assert all(any(f"jit({name})" in line for name in names) for line in found), found
    return len(found)

  everything = [*prompts(9), *prompts(9, seed=1, attempt=1)]
  names = ("prefill", "begin", "decode", "_empty")  # the last takes memory
  assert compiled(names, lambda: engine.generate(everything, 3)) == 4  # whatever lengths the prompts have
  assert compiled(("copy",), lambda: engine.generate(prompts(14, seed=2), 5)) == 1  # five share no copy of three
  engine.load(jax.tree.map(lambda x: x + 1, params(SMALL)), version=9)
  assert compiled((), lambda: engine.generate(prompts(3), 1)) == 0

  def suspend():
    engine.submit(prompts(1)[0], 9)
    engine.step()
    engine.suspend()
    engine.generate(prompts(2), 2)

  assert compiled(("end",), suspend) == 1  # no other program for resumed answers
  groups = []

  def resume():
    engine.submit(prompts(1)[0], 9)
    groups.extend(engine.step())
    engine.resume(engine.suspend())
    while engine.busy:
      groups.extend(engine.step())

  assert compiled((), resume) == 0 and engine.take_stats().recomputed_tokens > 0


def test_caches_are_donated_and_parameters_are_not(engine):
  engine.submit(prompts(1)[0], 7)
  engine.step()
  before = jax.tree.leaves(engine._device.state[:2])
  engine.step()
  assert all(leaf.is_deleted() for leaf in before)
  assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(params(SMALL)))
  engine.suspend()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_end_the_rollout_in_one_line(temperature):
  engine = new_engine(SMALL, temperature=temperature)
  broken = jax.tree.map(lambda x: x, params(SMALL))
  broken["final_norm"]["scale"] = broken["final_norm"]["scale"].replace(jnp.full(SMALL.embed_dim, jnp.nan))
  engine.load(broken, version=5)
  with pytest.raises(
    NotFinite, match=r"^rollout: prompt 0 has logits that are not finite, under .* version 5; no answer"
  ):
    engine.generate(prompts(2), 2)
  assert not engine.busy
  engine.load(params(SMALL), version=6)
  assert engine.generate(prompts(2), 2)  # nothing of it is left


@pytest.mark.parametrize("token", [-1, 68])
def test_ids_that_the_model_lacks_are_refused(engine, token):
  with pytest.raises(InputError, match=f"prompt 4: token id {token}, expected 0 to 67"):
    engine.submit(Prompt(4, (1, token, 2), {}), 1)
