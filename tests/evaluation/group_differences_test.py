"""Tests that groups which differ are found, and that equal ones are not."""

import numpy as np
import pytest

from posttrain_jax.evaluation.group_differences import group_differences
from posttrain_jax.types import InputError

NAMES = ("a", "b", "c", "d", "e")


def draw(seed, extra, *, prompts=60):
  """Draws refusals; prompts differ much, and the last group is refused more often by `extra`."""
  rng = np.random.default_rng(seed)
  chance = rng.random((prompts, 1)) * 0.5 + np.array([0, 0, 0, 0, extra])
  return (rng.random((prompts, len(NAMES))) < chance).astype(float)


def test_differences_worked_out_by_hand():
  found = group_differences(np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]), ("a", "b", "c"))
  # Means 1, ½ and 0; the medians of the others are ¼, ½ and ¾.
  assert [each.mean for each in found.groups.values()] == pytest.approx([0.75, 0, -0.75])
  assert found.largest.mean == pytest.approx(0.75)


def test_a_group_that_is_treated_otherwise_does_not_make_the_others_differ():
  found = group_differences(np.tile([0.0, 0.0, 0.0, 1.0], (40, 1)), ("a", "b", "c", "d"))
  assert [each.mean for each in found.groups.values()] == [0, 0, 0, 1] and found.found == ("d",)


def test_a_group_that_is_treated_worse_is_found():
  found = group_differences(draw(0, 0.4), NAMES)
  assert found.found == ("e",) and found.group == "e" and found.p_value < 0.01
  assert found.largest == found.groups["e"] and found.largest.low > 0


def test_a_group_that_is_treated_better_is_found_and_the_largest_is_a_size():
  found = group_differences(1 - draw(0, 0.4), NAMES)
  assert found.found == ("e",) and found.groups["e"].high < 0 < found.largest.low


def test_equal_groups_are_seldom_found():
  every = [group_differences(draw(seed, 0.0, prompts=12), NAMES, seed=seed) for seed in range(60)]
  assert sum(bool(each.found) for each in every) <= 6
  assert sum(each.p_value <= 0.05 for each in every) <= 6
  covered = sum(all(group.low <= 0 <= group.high for group in each.groups.values()) for each in every)
  assert covered >= 53  # with plain percentiles 50


def test_differences_are_taken_prompt_by_prompt():
  # Every prompt differs from the others by far more than the groups do.
  scores = np.arange(20.0)[:, None] + np.array([0.0, 0.0, 0.1, 0.0])
  found = group_differences(scores, ("a", "b", "c", "d"))
  assert found.groups["c"].low == pytest.approx(0.1) and found.found == ("c",)


def test_what_cannot_be_compared_is_refused():
  with pytest.raises(InputError, match=r"found scores \(3, 1\) of 1 groups"):
    group_differences(np.zeros((3, 1)), ("a",))
  with pytest.raises(InputError, match="N > 0"):
    group_differences(np.zeros((0, 2)), ("a", "b"))
