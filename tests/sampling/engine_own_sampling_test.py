"""Tests an engine whose requests bring their own sampling, bit for bit in any company."""

import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest

from posttrain_jax.sampling.draw import SamplingConfig
from posttrain_jax.sampling.own_sampling import OwnSampling, PerRequest
from posttrain_jax.types import FinishReason, InputError, Prompt
from tests.sampling.small_engine import MAX_NEW, STOPS, by_request, new_engine, params, prompts

GROUP = 3
CONFIGS = [
  SamplingConfig(),
  SamplingConfig(temperature=0),
  SamplingConfig(temperature=0.7, top_p=0.9),
  SamplingConfig(top_k=5),
  SamplingConfig(temperature=1.3, min_p=0.05),
]


def text(tokens):
  return "".join(f"{token};" for token in tokens)


engine = functools.cache(lambda: new_engine(sampling=PerRequest(STOPS, top_logprobs=4), decode=text))


def asked():
  """Returns (prompt, its sampling) of eleven requests: all settings, seeds and caps."""
  return [
    (prompt, OwnSampling(CONFIGS[i % 5], max_new_tokens=4 + i % 9, seed=i // 5, top_logprobs=4 * (i % 2)))
    for i, prompt in enumerate(prompts(11))
  ]


def answered(requests, samples=GROUP):
  for prompt, own in requests:
    engine().submit(prompt, samples, own)
  groups = []
  while engine().busy:
    groups += engine().step()
  return by_request(groups)


@functools.cache
def reference():
  return answered(asked())


def test_the_reference_exercises_what_it_should():
  lengths = {len(np.frombuffer(bits[0], np.int32)) for bits in reference().values()}
  assert len(lengths) > 4
  assert {bits[3] for bits in reference().values()} == {FinishReason.EOS, FinishReason.LENGTH}


@pytest.mark.parametrize("seed", range(3))
def test_order_and_slot_change_no_bit(seed):
  order = np.random.default_rng(seed).permutation(11)
  assert answered([asked()[i] for i in order]) == reference()


def test_company_changes_no_bit():
  for request in asked():
    for name, bits in answered([request]).items():
      assert reference()[name] == bits
  strangers = [
    (prompt, dataclasses.replace(own, config=CONFIGS[(i + 2) % 5]))
    for i, (prompt, (_, own)) in enumerate(zip(prompts(11, seed=5, attempt=1), asked()))
  ]
  mixed = list(itertools.chain(*zip(strangers, asked())))
  assert {name: bits for name, bits in answered(mixed).items() if name[1] == 0} == reference()


def test_the_number_that_a_prompt_is_given_changes_no_bit():
  renamed = [(dataclasses.replace(prompt, index=90 - prompt.index, attempt=3), own) for prompt, own in asked()]
  found = answered(renamed[::-1])
  assert {(90 - index, 0, sample): bits for (index, _, sample), bits in found.items()} == reference()


def test_seed_and_text_change_the_draws_and_the_same_text_is_drawn_alike():
  tokens = prompts(4)[3].tokens
  own = OwnSampling(CONFIGS[0], MAX_NEW, seed=0, top_logprobs=0)
  same = [(Prompt(index, tokens, {}), own) for index in range(2)]
  other = [(Prompt(7, tokens, {}), dataclasses.replace(own, seed=1)), (Prompt(8, (*tokens[:-1], 3), {}), own)]
  found = answered(same + other, samples=4)
  by_prompt = {index: [found[index, 0, sample] for sample in range(4)] for index in (0, 1, 7, 8)}
  assert by_prompt[0] == by_prompt[1] and len(set(by_prompt[0])) == 4
  assert len({*by_prompt[0], *by_prompt[7], *by_prompt[8]}) == 12


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_answers_are_those_of_an_engine_that_draws_all_alike(config, monkeypatch):
  """The engine for training gets the requests' keys here; tokens are equal and logprobs agree to rounding."""
  common = new_engine(sampling=dataclasses.replace(config, stop_ids=STOPS))
  own = OwnSampling(config, MAX_NEW, seed=4, top_logprobs=0)
  device = common._device
  real = device._new_slots

  def with_own_keys(requests):
    new, _ = real(requests)
    new.key[: len(requests)] = [own.key(request.prompt.tokens, request.sample) for request in requests]
    return new, None

  monkeypatch.setattr(device, "_new_slots", with_own_keys)
  expected = by_request(common.generate(prompts(9), GROUP))
  crowd = [(dataclasses.replace(prompt, attempt=1), other) for prompt, other in asked()]
  mixed = list(itertools.chain(*zip([(prompt, own) for prompt in prompts(9)], crowd)))
  found = {name: bits for name, bits in answered(mixed).items() if name[1] == 0}
  assert found.keys() == expected.keys()
  for name, bits in expected.items():
    assert found[name][0] == bits[0] and found[name][3] == bits[3]
    for mine, theirs in zip(found[name][1:3], bits[1:3]):
      np.testing.assert_allclose(np.frombuffer(mine, np.float32), np.frombuffer(theirs, np.float32), atol=2e-6)


def test_stop_strings_are_the_requests_own():
  (whole,) = [bits for name, bits in reference().items() if name == (4, 0, 0)]
  tokens = np.frombuffer(whole[0], np.int32)
  stop = f"{tokens[1]};{tokens[2]};"
  stopped = asked()[4][1]
  stopped = dataclasses.replace(stopped, config=dataclasses.replace(stopped.config, stop_strings=("never", stop)))
  found = answered([(asked()[4][0], stopped), *asked()[5:]])
  np.testing.assert_array_equal(np.frombuffer(found[4, 0, 0][0], np.int32), tokens[:3])
  assert found[4, 0, 0][3] == FinishReason.EOS
  assert {name: bits for name, bits in found.items() if name[0] > 4}.items() <= reference().items()


def test_new_tokens_are_told_after_every_dispatch_and_add_up_to_the_answers():
  parts, alternatives = {}, {}
  for prompt, own in asked():
    engine().submit(prompt, GROUP, own)
  while engine().busy:
    engine().step()
    for new in engine().new:
      name = (new.prompt.index, 0, new.sample)
      parts.setdefault(name, []).append(new)
      alternatives.setdefault(name, []).append(new.top)
  for name, bits in reference().items():
    assert b"".join(part.tokens.tobytes() for part in parts[name]) == bits[0]
    assert b"".join(part.sampler_logprobs.tobytes() for part in parts[name]) == bits[1]
    assert [part.finish_reason for part in parts[name][:-1]] == [None] * (len(parts[name]) - 1)
    assert parts[name][-1].finish_reason == bits[3]
    top = np.concatenate([each.logprobs for each in alternatives[name]])
    chosen = np.frombuffer(bits[1], np.float32)
    assert top.shape == (len(chosen), 4)
    if name[0] % 2 and name[0] % 5 == 1:  # asked for, and greedy
      np.testing.assert_array_equal(top[:, 0], chosen)
    if name[0] % 2:
      assert np.all(np.diff(top, axis=1) <= 0) and np.all(top < 0)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_cancelled_prompt_frees_its_slots_and_changes_no_other(after):
  for prompt, own in asked():
    engine().submit(prompt, GROUP, own)
  groups = []
  for _ in range(after):
    groups += engine().step()
  cancelled = [prompt for prompt, _ in asked() if prompt.index in (1, 2, 8)]
  left = [prompt for prompt in cancelled if prompt.index not in {group.prompt.index for group in groups}]
  for prompt in left:
    engine().cancel(prompt)
  while engine().busy:
    groups += engine().step()
  found = by_request(groups)
  assert found.items() <= reference().items() and len(found) == len(reference()) - GROUP * len(left)
  assert engine().free_slots == 6 and engine()._places.pages_in_use == 0 and engine()._places.copies == {}
  with pytest.raises(KeyError):
    engine().cancel(cancelled[0])


def test_all_are_cancelled():
  for prompt, own in asked():
    engine().submit(prompt, GROUP, own)
  ended = {group.prompt.index for group in engine().step()}
  for prompt, _ in asked():
    if prompt.index not in ended:
      engine().cancel(prompt)
  assert not engine().busy and engine().free_slots == 6
  assert answered(asked()) == reference()


def test_prompts_that_arrive_later_join_at_any_dispatch():
  waiting, groups = asked(), []
  while waiting or engine().busy:
    if waiting:
      prompt, own = waiting.pop()
      engine().submit(prompt, GROUP, own)
    groups += engine().step()
  assert by_request(groups) == reference()


def test_suspended_answers_go_on_with_their_sampling():
  for prompt, own in asked():
    engine().submit(prompt, GROUP, own)
  done = engine().step()
  groups = engine().suspend()
  with pytest.raises(ValueError, match="brings its own sampling"):
    engine().resume(groups)
  owns = {prompt.index: own for prompt, own in asked()}
  engine().resume(groups, [owns[group.prompt.index] for group in groups])
  while engine().busy:
    done += engine().step()
  found = by_request(done)
  assert {name: bits[0] for name, bits in found.items()} == {name: bits[0] for name, bits in reference().items()}


def test_what_does_not_fit_together_is_refused():
  prompt, own = asked()[0]
  with pytest.raises(ValueError, match="brings its own sampling"):
    engine().submit(prompt, 1)
  with pytest.raises(ValueError, match="brings its own sampling"):
    new_engine().submit(prompt, 1, own)
  with pytest.raises(InputError, match="top_logprobs: 5, expected 0 to 4"):
    engine().submit(prompt, 1, dataclasses.replace(own, top_logprobs=5))
  deaf = new_engine(sampling=PerRequest(STOPS, top_logprobs=0))
  with pytest.raises(InputError, match="without a tokeniser"):
    deaf.submit(prompt, 1, dataclasses.replace(own, config=SamplingConfig(stop_strings=("x",))))
  assert not engine().busy


def test_an_engine_that_draws_all_alike_has_no_array_for_sampling():
  """Its program reads what it read before there were requests with a sampling of their own: six arrays a slot."""
  calls = new_engine().abstract_calls(params())
  program, arguments = calls["decode"]
  assert len(jax.tree.leaves(arguments[2])) == 6
  own_calls = engine().abstract_calls(params())
  assert len(jax.tree.leaves(own_calls["decode"][1][2])) == 11
  assert "top_k" not in str(program.lower(*arguments).as_text())


# Drawn before there were requests with a sampling of their own.
RECORDED = {
  SamplingConfig(stop_ids=STOPS): [[4, 4, 9, 4, 4, 3, 23, 4, 60, 51], [54, 10, 6, 61, 17], [15, 25, 66]],
  SamplingConfig(temperature=0.7, top_p=0.9, stop_ids=(5,)): [
    [6, 10, 23, 10, 10, 9, 25, 13, 20, 37],
    [54, 10, 10, 10, 5],
    [3, 39, 63, 25, 66, 3, 28, 25, 30, 4],
  ],
  SamplingConfig(top_k=5): [
    [9, 10, 12, 6, 17, 25, 15, 14, 54, 20],
    [65, 12, 17, 28, 4, 7, 4, 22, 49, 23],
    [3, 48, 30, 28, 63, 30, 25, 25, 25, 13],
  ],
}


@pytest.mark.parametrize("config", RECORDED, ids=str)
def test_training_draws_what_it_drew_before(config):
  groups = new_engine(sampling=config).generate(prompts(4), 2)
  assert [answer.tokens.tolist() for group in groups for answer in group.answers][:3] == RECORDED[config]
