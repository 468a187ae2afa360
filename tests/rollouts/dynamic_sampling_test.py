"""Tests which groups are informative, and which settings are refused."""

import dataclasses

import numpy as np
import pytest

from posttrain_jax.rollouts.dynamic_sampling import (
  DynamicSamplingSettings,
  Informative,
  Outcome,
  Verdict,
  drop_uninformative_groups,
  verdict,
)
from posttrain_jax.types import Group, InputError, Prompt
from tests.pipelines.scripted_collector import make_settings


def judged_group(accuracy, valid=None, rewards=None, index=0):
  accuracy = np.array(accuracy, np.float32)
  valid = np.ones(accuracy.shape, bool) if valid is None else np.array(valid)
  rewards = accuracy if rewards is None else np.array(rewards, np.float32)
  return Group(Prompt(index, (1,), {}), (None,) * len(accuracy), accuracy=accuracy, rewards=rewards, valid=valid)


@pytest.mark.parametrize(
  ("accuracy", "valid", "expected"),
  [
    ([1, 0, 0], None, Verdict.INFORMATIVE),
    ([1, 1, 1], None, Verdict.ALL_RIGHT),
    ([0, 0, 0], None, Verdict.ALL_WRONG),
    ([1, 1, 0], [True, True, False], Verdict.ALL_RIGHT),  # the failed verdict is not a wrong answer
    ([0, 0, 0], [True, True, False], Verdict.ALL_WRONG),
    ([1, 0, 0], [True, False, False], Verdict.INVALID),  # one answer is no group
    ([1, 0, 0], [False, False, False], Verdict.INVALID),
  ],
)
def test_verdict(accuracy, valid, expected):
  assert verdict(judged_group(accuracy, valid)) == expected


@pytest.mark.parametrize(
  ("accuracy", "valid", "mixed", "spread"),
  [
    ([0.6, 0.9, 0.8, 0.7], None, Verdict.ALL_RIGHT, Verdict.INFORMATIVE),
    ([0.1, 0.4, 0.2, 0.3], None, Verdict.ALL_WRONG, Verdict.INFORMATIVE),
    ([0.6, 0.6, 0.6], None, Verdict.ALL_RIGHT, Verdict.ALL_RIGHT),
    ([0.3, 0.3, 0.9], [True, True, False], Verdict.ALL_WRONG, Verdict.ALL_WRONG),
    ([0.3, 0.9], [True, False], Verdict.INVALID, Verdict.INVALID),
    ([1, 0], None, Verdict.INFORMATIVE, Verdict.INFORMATIVE),
    ([0.7, np.float32(0.7) + np.float32(1e-7)], None, Verdict.ALL_RIGHT, Verdict.ALL_RIGHT),  # rounding is no spread
    ([np.nan, np.nan], None, Verdict.INVALID, Verdict.INVALID),  # only a reward model judged
  ],
)
def test_graded_accuracies(accuracy, valid, mixed, spread):
  group = judged_group(accuracy, valid)
  assert make_settings().verdict(group) == mixed
  assert make_settings(informative=Informative.SPREAD).verdict(group) == spread


def test_the_threshold_of_right():
  group = judged_group([0.6, 0.9, 0.8, 0.7])
  assert make_settings(right_above=0.75).verdict(group) == Verdict.INFORMATIVE
  assert make_settings(right_above=0.9).verdict(group) == Verdict.ALL_WRONG  # above, not at
  for bad in (-0.1, 1.0):
    with pytest.raises(InputError, match=r"dynamic_sampling\.right_above"):
      make_settings(right_above=bad)


def test_shaped_rewards_play_no_part():
  assert verdict(judged_group([1, 1], rewards=[1, 0.2])) == Verdict.ALL_RIGHT
  assert verdict(judged_group([1, 0], rewards=[0.5, 0.5])) == Verdict.INFORMATIVE


def test_dropping_keeps_the_informative_groups_in_their_order():
  accuracies = {5: [1, 0], 2: [1, 1], 9: [0, 0], 1: [0, 1]}
  groups = [judged_group(accuracy, index=index) for index, accuracy in accuracies.items()]
  groups.append(judged_group([1, 0], valid=[True, False], index=7))
  kept = drop_uninformative_groups([(group, verdict(group)) for group in groups])
  assert [group.prompt.index for group in kept] == [5, 1]
  assert kept[0] is groups[0]
  assert drop_uninformative_groups([]) == []


def test_the_outcome_of_a_dropped_group_is_its_verdict():
  reasons = [Outcome(each) for each in Verdict if each != Verdict.INFORMATIVE]
  assert reasons == [Outcome.ALL_RIGHT, Outcome.ALL_WRONG, Outcome.INVALID]


@pytest.mark.parametrize(
  ("name", "value", "least"),
  [("max_staleness", -1, 0), ("verdict_delay", -1, 0), ("batch_factor", 0, 1), ("retire_after", -1, 0)],
)
def test_settings_out_of_range(name, value, least):
  with pytest.raises(InputError, match=rf"dynamic_sampling\.{name}: {value}, expected at least {least}"):
    make_settings(**{name: value})
  assert getattr(make_settings(**{name: least}), name) == least


def test_a_config_has_to_name_every_setting():
  with pytest.raises(TypeError, match="retire_after"):
    DynamicSamplingSettings(
      **{
        field.name: getattr(make_settings(), field.name)
        for field in dataclasses.fields(DynamicSamplingSettings)
        if field.name != "retire_after"
      }
    )
