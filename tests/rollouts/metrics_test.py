import collections

import numpy as np
import pytest

from posttrain_jax.rollouts.metrics import describe, describe_unselected, token_cost
from posttrain_jax.sampling.engine import EngineStats
from posttrain_jax.types import FinishReason
from tests.pipelines.made_groups import answer, group

LONG = FinishReason.LENGTH
STATS = EngineStats(
  generated_tokens=40,
  prefill_tokens=30,
  recomputed_tokens=7,
  dispatches=3,
  decode_steps=10,
  slot_steps=80,
  idle_slot_steps=20,
)


def found(groups, judged, **counted):
  return describe(groups, judged, collections.Counter(counted), STATS, version=7)


def test_what_was_generated_and_what_was_trained_on_are_two_things():
  carried_in = group([answer([2, 1], version=5), answer([2, 2, 2, 1], version=5)], [1, 0], index=0)
  fresh = group([answer([2, 1], version=7), answer([2] * 6, reason=LONG, version=7)], [1, 0], index=1)
  right = group([answer([1], version=7), answer([1], version=7)], [1, 1], index=2)
  surplus = group([answer([2, 2, 1], version=7), answer([2, 2, 1], version=7)], [0, 1], index=3)
  thrown = group([answer([1], version=7), answer([2, 1], version=7)], [0, 1], index=4)
  judged = [(fresh, "trained"), (right, "all_right"), (surplus, "carried"), (thrown, "surplus")]
  metrics = found([carried_in, fresh], judged, informative=3, all_right=1)
  expected = {
    "sampling/prompts_drawn": 4,
    "sampling/groups_trained": 2,
    "sampling/carried": 1,
    "sampling/dropped_all_right": 1,
    "sampling/dropped_all_wrong": 0,
    "sampling/dropped_invalid": 0,
    "sampling/surplus": 1,
    "sampling/tokens_generated": 40,
    "sampling/prefill_tokens": 30,
    "sampling/recomputed_tokens": 7,
    "sampling/decode_steps": 10,
    "sampling/dispatches": 3,
    "sampling/preemptions": 0,
    "sampling/idle_share": 0.25,
    "sampling/informative_share": 3 / 4,
    "accuracy/mean": 5 / 8,
    "reward/mean": 5 / 8,
    "reward/correct": 5 / 8,
    "reward/invalid": 0,
    "reward/timed_out": 0,
    "length/mean": 19 / 8,
    "length/cv": np.sqrt(65 / 8 - (19 / 8) ** 2) / (19 / 8),
    "length/max": 6,
    "truncated/share": 1 / 8,
    "accuracy/trained": 0.5,
    "length/trained": 14 / 4,
    "truncated/trained_share": 0.25,
    "sampling/staleness_mean": 2 * 6 / 14,  # by tokens
    "sampling/staleness_max": 2,
    "length/trained_minus_generated": 14 / 4 - 19 / 8,
  }
  assert metrics == pytest.approx(expected)
  assert describe([], judged, collections.Counter(), STATS, version=7, drawn=9)["sampling/prompts_drawn"] == 9


def test_answers_without_a_reward_are_in_no_mean():
  judged = group([answer([1]), answer([1]), answer([1])], [1, 0, 0], valid=[True, True, False])
  metrics = found([], [(judged, "trained")], informative=1)
  assert metrics["accuracy/mean"] == metrics["reward/mean"] == metrics["reward/correct"] == 0.5
  assert metrics["reward/invalid"] == 1


def test_no_verdict_at_all():
  judged = group([answer([1]), answer([1])], [0, 0], valid=[False, False])
  metrics = found([], [(judged, "invalid")], invalid=1)
  assert np.isnan([metrics["accuracy/mean"], metrics["reward/mean"], metrics["reward/correct"]]).all()
  assert metrics["reward/invalid"] == 2 and metrics["sampling/dropped_invalid"] == 1


def test_nothing_generated_or_nothing_trained_on():
  carried_in = group([answer([2, 1], version=6), answer([1], version=6)], [1, 0])
  metrics = found([carried_in], [])
  assert metrics["sampling/prompts_drawn"] == 0 and metrics["sampling/staleness_max"] == 1
  assert "accuracy/mean" not in metrics and "length/trained_minus_generated" not in metrics
  metrics = found([], [(carried_in, "all_wrong")], all_wrong=1)
  assert metrics["sampling/groups_trained"] == 0 and "length/trained" not in metrics
  assert "sampling/idle_share" not in describe([], [], collections.Counter(), EngineStats(), version=0)


def test_without_a_choice_nothing_is_said_of_one():
  # The reward model failed on the second answer: its components are there, its reward is not.
  groups = [group([answer([2, 1], version=7), answer([1], version=7)], [1, 0], valid=[True, False])]
  metrics = describe_unselected(groups, STATS, version=7)
  assert metrics["reward/invalid"] == 1 and metrics["accuracy/mean"] == 1
  assert metrics["sampling/groups_trained"] == 1 and metrics["sampling/staleness_max"] == 0
  assert not any("dropped" in name or "carried" in name or "surplus" in name for name in metrics)
  assert "sampling/informative_share" not in metrics


def test_token_cost():
  assert token_cost(40, 10) == {"sampling/tokens_trained": 10, "sampling/generated_per_trained": 4}
  assert token_cost(40, 0)["sampling/generated_per_trained"] == 40  # all filtered: no division by 0
