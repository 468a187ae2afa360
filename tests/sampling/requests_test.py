import dataclasses

import numpy as np

from posttrain_jax.sampling.requests import EngineStats, Request, resumed
from posttrain_jax.types import Answer, FinishReason, Prompt

PROMPT = Prompt(7, (4, 5, 6), {}, attempt=2)


def under_way() -> Request:
  """Makes a request after two dispatches: two tokens, then one, under another version."""
  request = Request(PROMPT, 1)
  for tokens, version in (((8, 9), 3), ((1,), 4)):
    request.tokens.append(np.array(tokens, np.int32))
    request.sampler_logprobs.append(np.array(tokens, np.float32) / -2)
    request.drawn_logprobs.append(np.array(tokens, np.float32) / -4)
    request.versions.append(np.full(len(tokens), version, np.int32))
  return request


def test_counts_and_sequence():
  request = under_way()
  assert request.group == (7, 2)
  assert (request.drawn, request.length) == (3, 6)
  np.testing.assert_array_equal(request.sequence, [4, 5, 6, 8, 9, 1])
  assert request.sequence.dtype == np.int32


def test_an_answer_joins_what_the_dispatches_drew():
  answer = under_way().answer(FinishReason.LENGTH)
  np.testing.assert_array_equal(answer.tokens, [8, 9, 1])
  np.testing.assert_array_equal(answer.sampler_logprobs, np.float32([-4, -4.5, -0.5]))
  np.testing.assert_array_equal(answer.drawn_logprobs, np.float32([-2, -2.25, -0.25]))
  np.testing.assert_array_equal(answer.versions, [3, 3, 4])
  assert answer.finish_reason == FinishReason.LENGTH


def test_an_answer_without_tokens_has_arrays_of_the_same_types():
  for request in (Request(PROMPT, 0), under_way()):
    answer = request.answer(FinishReason.SUSPENDED)
    assert answer.tokens.dtype == answer.versions.dtype == np.int32
    assert answer.sampler_logprobs.dtype == answer.drawn_logprobs.dtype == np.float32
    assert all(len(getattr(answer, field.name)) == request.drawn for field in dataclasses.fields(Answer)[:4])


def test_a_resumed_request_is_what_was_suspended():
  before = under_way()
  after = resumed(PROMPT, 1, before.answer(FinishReason.SUSPENDED))
  assert (after.group, after.sample, after.drawn, after.length) == (before.group, 1, 3, 6)
  np.testing.assert_array_equal(after.sequence, before.sequence)
  for name in ("sampler_logprobs", "drawn_logprobs", "versions"):
    np.testing.assert_array_equal(np.concatenate(getattr(after, name)), np.concatenate(getattr(before, name)))
  assert resumed(PROMPT, 0, Request(PROMPT, 0).answer(FinishReason.SUSPENDED)).tokens == []


def test_two_requests_are_different_even_with_the_same_content():
  """They are keys of dictionaries."""
  assert Request(PROMPT, 0) != Request(PROMPT, 0)
  assert len({Request(PROMPT, 0), Request(PROMPT, 0)}) == 2


def test_counts_begin_at_zero():
  assert set(dataclasses.asdict(EngineStats()).values()) == {0}
