"""Tests what is remembered of prompts over epochs, and how prompts that are always solved retire."""

import json

import numpy as np
import pytest

from posttrain_jax.rollouts.collector import SamplingCapReached
from posttrain_jax.rollouts.dynamic_sampling import Admission, AtCap, Verdict
from posttrain_jax.rollouts.pass_rates import PassRates
from tests.pipelines.made_groups import answer, group
from tests.pipelines.scripted_collector import collect, difficulty, judged_names, make, saved
from tests.pipelines.scripted_engine import prompts


def judged(index, rewards, valid=None):
  made = group([answer([1])] * len(rewards), rewards, valid=valid, index=index)
  if valid is not None and sum(valid) < 2:
    return made, Verdict.INVALID
  right = [r for r, v in zip(rewards, valid or [True] * len(rewards)) if v]
  return made, {0: Verdict.ALL_WRONG, len(right): Verdict.ALL_RIGHT}.get(sum(right), Verdict.INFORMATIVE)


def test_rates_are_over_all_epochs_and_over_answers_with_a_verdict():
  rates = PassRates(0)
  rates.add([judged(3, [1, 0, 0, 0]), judged(5, [0, 0])])
  rates.add([judged(3, [1, 1], valid=[True, False]), judged(3, [1, 1, 1])])
  assert rates.rate(3) == 5 / 8 and rates.rate(5) == 0 and np.isnan(rates.rate(4))
  assert rates.describe() == {
    "sampling/prompts_seen": 2,
    "sampling/prompts_retired": 0,
    "sampling/pass_rate": pytest.approx(5 / 16),
  }
  assert PassRates(0).describe() == {"sampling/prompts_seen": 0, "sampling/prompts_retired": 0}


def test_a_prompt_retires_when_it_was_solved_often_enough_in_a_row():
  rates = PassRates(2)
  all_right, mixed, unknown = judged(1, [1, 1]), judged(1, [1, 0]), judged(1, [1, 1], valid=[True, False])
  for item, retired in ((all_right, False), (mixed, False), (all_right, False), (unknown, False), (all_right, True)):
    rates.add([item])
    assert (1 in rates.retired) == retired
  never = PassRates(0)
  never.add([all_right] * 9)
  assert not never.retired


def test_a_state_is_json():
  rates, again = PassRates(1), PassRates(1)
  rates.add([judged(11, [1, 1]), judged(2, [0, 1])])
  again.restore(json.loads(json.dumps(rates.state())))
  assert again.retired == rates.retired == {11}
  assert again.describe() == rates.describe() and again.state() == rates.state()


@pytest.mark.parametrize("mode", Admission)
def test_retired_prompts_are_not_drawn_any_more(mode):
  # About a third of 40 prompts are always solved, and so is one in 16 groups of those solved half the time.
  collector = make(mode, count=40, retire_after=1, groups=4)
  gone, seen, retired_before = set(), [], 0
  for _ in range(20):
    collected = collector.collect()
    drawn = judged_names(collected)
    # A group of `carry` may have been under way when another of its prompt retired it.
    if mode != Admission.CARRY:
      assert not gone & {index for index, _ in drawn}
    seen += drawn
    gone = set(collector.pass_rates.retired)
    assert collected.metrics["sampling/prompts_retired"] == len(gone) >= retired_before
    retired_before = len(gone)
  assert len(set(seen)) == len(seen)
  easy = {index for index in range(40) if difficulty_of(index) == 1}
  assert easy <= gone < set(range(40))
  last = max(attempt for _, attempt in seen)
  assert last >= 2 and not easy & {index for index, attempt in seen if attempt == last}
  assert {index for index, _ in seen} == set(range(40))


def difficulty_of(index):
  return difficulty(prompts(index + 1)[index])


def retire_all(collector, count, path):
  state = {**saved(collector, path), "pass_rates": {str(index): [4, 4, 1] for index in range(count)}}
  collector.restore(state, path)


@pytest.mark.parametrize("mode", Admission)
def test_when_all_prompts_are_retired_it_is_as_at_the_cap(mode, tmp_path):
  for policy in AtCap:
    collector = make(mode, count=20, retire_after=1, at_cap=policy)
    retire_all(collector, 20, tmp_path)
    if policy == AtCap.STOP:  # the loop ends the run here, in peace
      collected = collector.collect()
      assert collected.at_cap and collected.trained == [] == collected.judged
    else:
      with pytest.raises(SamplingCapReached, match="no prompt is left: all were solved 1 times in a row"):
        collector.collect()


def test_what_is_under_way_when_the_last_prompt_retires_is_trained_on(tmp_path):
  collector = make(Admission.CARRY, count=20, retire_after=1, at_cap=AtCap.TRAIN_PARTIAL, rate=lambda prompt: 0.5)
  collect(collector, 2)
  left = len(collector.line.state())
  retire_all(collector, 20, tmp_path)
  collected = collector.collect()
  assert left == len(collected.judged) and 0 < len(collected.trained) < collector.groups
  assert collected.metrics["sampling/prompts_drawn"] == 0
  with pytest.raises(SamplingCapReached, match="no prompt is left"):
    collector.collect()


def test_without_dynamic_sampling_prompts_retire_as_well():
  collector = make(enabled=False, rate=lambda prompt: float(prompt.index < 10), count=20, retire_after=2)
  for collected in collect(collector, 12):
    drawn = judged_names(collected)
  assert len(drawn) == 8 and all(index >= 10 for index, _ in drawn)
  assert collected.metrics["sampling/prompts_retired"] == 10
