import dataclasses
import json

import numpy as np
import pytest

from posttrain_jax.rollouts.group_json import group_from_json, group_to_json, rollout_record
from posttrain_jax.types import FinishReason
from tests.pipelines.made_groups import answer, group


def awkward():
  """Makes a group that is hard to write.

  It has float32 values that a short decimal would change, a tool's answer, an answer of no tokens, NaN and unusual
  text.
  """
  tiny, huge = np.finfo(np.float32).smallest_subnormal, np.finfo(np.float32).max
  odd = np.array([np.nextafter(np.float32(-1), np.float32(0)), -tiny, -huge, -0.0], np.float32)
  first = dataclasses.replace(answer([7, 8, 9, 1], version=3), sampler_logprobs=odd)
  second = answer([5, 6], reason=FinishReason.LENGTH, generated=[True, False])
  third = answer([], reason=FinishReason.CANCELLED)
  row = {"answer": "1\u2028½", "difficulty": 3, "tags": ["a", None], "nested": {"x": 0.1}}
  made = group([first, second, third], [np.float32(1) / 3, 0, 1], valid=[True, True, False], index=9, row=row)
  components = {**made.components, "style": np.array([np.nan, np.inf, -0.0], np.float32)}
  prompt = dataclasses.replace(made.prompt, attempt=4)
  return dataclasses.replace(made, prompt=prompt, texts=("a\n", "\x00é", ""), components=components)


def same_bits(one, other):
  return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def test_exact_round_trip():
  before = awkward()
  after = group_from_json(json.loads(json.dumps(group_to_json(before))))
  assert after.prompt == before.prompt and isinstance(after.prompt.tokens, tuple)
  assert after.texts == before.texts
  assert list(after.components) == list(before.components)  # the order in which rewards are added up
  for name, values in before.components.items():
    assert same_bits(after.components[name], values), name
  for name in ("accuracy", "rewards", "valid"):
    assert same_bits(getattr(after, name), getattr(before, name)), name
  for one, other in zip(before.answers, after.answers, strict=True):
    for name in ("tokens", "sampler_logprobs", "drawn_logprobs", "versions"):
      assert same_bits(getattr(one, name), getattr(other, name)), name
    assert one.finish_reason is other.finish_reason
    assert (one.generated is None) == (other.generated is None)
  assert same_bits(after.answers[1].generated, before.answers[1].generated)


def test_a_group_that_is_not_judged_yet():
  cut = group([answer([5, 6], reason=FinishReason.SUSPENDED), answer([], reason=FinishReason.SUSPENDED)], [0, 0])
  before = dataclasses.replace(cut, texts=(), components={}, accuracy=None, rewards=None, valid=None)
  after = group_from_json(json.loads(json.dumps(group_to_json(before))))
  assert (after.accuracy, after.rewards, after.valid, after.texts, after.components) == (None, None, None, (), {})
  assert [each.finish_reason for each in after.answers] == [FinishReason.SUSPENDED] * 2
  assert same_bits(after.answers[0].sampler_logprobs, before.answers[0].sampler_logprobs)
  assert same_bits(after.answers[1].tokens, before.answers[1].tokens)


def test_a_second_round_trip_changes_nothing():
  written = group_to_json(awkward())
  assert json.dumps(group_to_json(group_from_json(written))) == json.dumps(written)


@pytest.mark.parametrize("accepted", [True, False])
def test_rollout_record(accepted):
  advantages = np.array([0.5, -0.5, 0], np.float32) if accepted else None
  record = rollout_record(12, awkward(), "trained" if accepted else "all_wrong", advantages, "1+2=")
  assert (record["step"], record["prompt"], record["prompt_index"], record["answer"]) == (12, "1+2=", 9, "1\u2028½")
  assert record["accepted"] == accepted
  first, second, third = record["samples"]
  assert (first["text"], first["length"], first["finish_reason"], first["valid"]) == ("a\n", 4, "eos", True)
  assert (second["finish_reason"], third["finish_reason"], third["valid"]) == ("length", "cancelled", False)
  assert first["reward"] == first["components"]["correct"] == float(np.float32(1) / 3)
  assert np.isnan(third["components"]["correct"])
  assert [sample["advantage"] for sample in record["samples"]] == ([0.5, -0.5, 0] if accepted else [None] * 3)
