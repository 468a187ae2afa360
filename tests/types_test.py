"""Tests what groups say of their answers, and that a rollout is a pytree of arrays."""

import dataclasses

import jax
import numpy as np

from posttrain_jax.types import FinishReason, Group, Prompt, Rollout
from tests.pipelines.made_groups import answer


def test_lengths_and_truncation_of_a_group():
  answers = (
    answer([7, 8, 1]),
    answer([7, 8, 9, 9], reason=FinishReason.LENGTH),
    answer([], reason=FinishReason.CANCELLED),
    answer([7], reason=FinishReason.SUSPENDED),
  )
  group = Group(Prompt(0, (1, 2), {}), answers)
  assert group.lengths.tolist() == [3, 4, 0, 1] and group.lengths.dtype == np.int32
  assert group.truncated.tolist() == [False, True, False, False] and group.truncated.dtype == bool


def test_a_rollout_goes_through_jit():
  names = [field.name for field in dataclasses.fields(Rollout)]
  rollout = Rollout(**{name: np.full((2,), i) for i, name in enumerate(names)})
  doubled = jax.jit(lambda given: jax.tree.map(lambda leaf: 2 * leaf, given))(rollout)
  assert isinstance(doubled, Rollout)
  assert [getattr(doubled, name).tolist() for name in names] == [[2 * i] * 2 for i in range(len(names))]
