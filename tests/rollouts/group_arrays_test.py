"""Groups as bytes: exact, small, and without a bound on the texts."""

import dataclasses

import numpy as np

from posttrain_jax.rollouts import group_arrays
from posttrain_jax.types import Answer, FinishReason, Group, Prompt
from tests.rollouts.group_json_test import awkward


def same(found, expected):
  if isinstance(expected, np.ndarray):
    return found.dtype == expected.dtype and found.tobytes() == expected.tobytes()
  if isinstance(expected, dict):
    return list(found) == list(expected) and all(same(found[name], expected[name]) for name in expected)
  if isinstance(expected, tuple):
    return len(found) == len(expected) and all(map(same, found, expected))
  if isinstance(expected, (Answer, Group, Prompt)):
    return same(vars(found), vars(expected))
  return type(found) is type(expected) and found == expected


def long_group(length=1000, count=8):
  rng = np.random.default_rng(0)

  def answer():
    tokens = rng.integers(0, 150_000, length, np.int32)
    logprobs = [rng.normal(size=length).astype(np.float32) for _ in range(2)]
    return Answer(tokens, *logprobs, np.full(length, 7, np.int32), FinishReason.SUSPENDED)

  return Group(Prompt(3, tuple(range(50)), {"answer": "4"}), tuple(answer() for _ in range(count)))


def test_groups_keep_their_bits():
  bare = Group(Prompt(0, (9,), {}), (long_group(2, 1).answers[0],))
  groups = [awkward(), bare, dataclasses.replace(awkward(), answers=(), texts=()), long_group(5)]
  found = group_arrays.unpack(group_arrays.pack(groups))
  assert len(found) == len(groups) and all(map(same, found, groups))
  assert group_arrays.pack(found) == group_arrays.pack(groups)
  assert group_arrays.unpack(group_arrays.pack([])) == []


def test_a_token_takes_16_bytes():
  assert 16 <= len(group_arrays.pack([long_group()])) / 8000 < 16.5


def test_texts_are_not_in_the_header_which_has_a_bound():
  content = group_arrays.pack([dataclasses.replace(long_group(2, 1), texts=("x" * 100_000,))])
  assert int.from_bytes(content[:8], "little") < 1000
