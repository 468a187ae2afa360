"""Tests what holds in every mode of admission: order, resuming, caps, epochs, counts."""

import dataclasses
import json

import numpy as np
import pytest
from absl import logging

from posttrain_jax.data.stream import PromptStream
from posttrain_jax.rollouts.collector import Collector, SamplingCapReached
from posttrain_jax.rollouts.dynamic_sampling import Admission, AtCap, Informative, Outcome
from posttrain_jax.rollouts.metrics import token_cost
from posttrain_jax.types import InputError
from tests.pipelines.scripted_collector import (
  GROUP_SIZE,
  collect,
  difficulty,
  geometric_length,
  is_right,
  judge_by,
  judged_names,
  make,
  make_settings,
  names,
  saved,
  stream_names,
)
from tests.pipelines.scripted_engine import ScriptedEngine, prompts

# Modes whose steps have N groups or are at the cap.
REFILLED = [mode for mode in Admission if mode != Admission.FILTER]


def informative_in_stream_order(collector, drawn):
  """Names the informative ones of the first prompts of the stream."""
  by_name = {name: prompt for name, prompt in zip(stream_names(drawn), PromptStream(prompts(500), seed=3).next(drawn))}
  right = {name: sum(is_right(p, s, difficulty) for s in range(GROUP_SIZE)) for name, p in by_name.items()}
  return [name for name in by_name if 0 < right[name] < GROUP_SIZE]


@pytest.mark.parametrize("mode", Admission)
def test_trains_on_the_first_informative_groups_in_prompt_order(mode):
  collector = make(mode)
  steps = collect(collector, 5)
  found = [name for collected in steps for name in names(collected.trained)]
  expected = informative_in_stream_order(collector, collector.stream.position)
  if mode == Admission.BATCH:  # each step has its own part of the stream, and throws away what is too much
    for collected in steps:
      own = [name for name in expected if name in judged_names(collected)]
      assert names(collected.trained) == own[: collector.groups]
      thrown = [group for group, outcome in collected.judged if outcome == Outcome.SURPLUS]
      assert names(thrown) == own[collector.groups :]
      assert collected.metrics["sampling/surplus"] == len(thrown)
    assert any(collected.metrics["sampling/surplus"] for collected in steps)
  else:
    assert found == expected[: len(found)]
  if mode == Admission.FILTER:
    assert found == expected and 0 < len(found) < 5 * collector.groups == collector.stream.position
  else:
    assert len(found) == 5 * collector.groups


@pytest.mark.parametrize("mode", Admission)
def test_every_group_that_was_started_is_judged_and_none_is_cut_off(mode):
  collector = make(mode)
  steps = collect(collector, 4)
  for collected in steps:
    assert not collector.engine.busy
    for group, _ in collected.judged:
      assert group.lengths.tolist() == [min(64, geometric_length(group.prompt, s)) for s in range(GROUP_SIZE)]
  found = [name for collected in steps for name in judged_names(collected)]
  drawn = collector.stream.position
  assert drawn == sum(collected.metrics["sampling/prompts_drawn"] for collected in steps)
  generated = sum(collected.metrics["sampling/tokens_generated"] for collected in steps)
  left = collector.line.groups()  # those that go on, in `carry`
  assert found + names(left) == stream_names(drawn)
  tokens = sum(int(group.lengths.sum()) for collected in steps for group, _ in collected.judged)
  tokens += sum(int(group.lengths.sum()) for group in left)
  assert generated == tokens
  assert bool(left) == (mode == Admission.CARRY)


@pytest.mark.parametrize("mode", Admission)
def test_random_verifier_delays_change_nothing(mode):
  plain, delayed = make(mode), make(mode, delay=0.004)
  for one, other in zip(collect(plain, 3), collect(delayed, 3)):
    assert names(one.trained) == names(other.trained)
    for a, b in zip(one.trained, other.trained):
      for x, y in zip(a.answers, b.answers):
        np.testing.assert_array_equal(x.tokens, y.tokens)
        np.testing.assert_array_equal(x.versions, y.versions)
    np.testing.assert_equal(one.metrics, other.metrics)


def test_metrics_count_what_was_dropped():
  collected = make().collect()
  outcomes = [str(outcome) for _, outcome in collected.judged]
  metrics = collected.metrics
  assert metrics["sampling/prompts_drawn"] == len(outcomes)
  assert metrics["sampling/dropped_all_right"] == outcomes.count("all_right") > 0
  assert metrics["sampling/dropped_all_wrong"] == outcomes.count("all_wrong") > 0
  assert metrics["sampling/informative_share"] == pytest.approx(
    (outcomes.count("trained") + outcomes.count("carried")) / len(outcomes)
  )
  assert token_cost(300, 100) == {"sampling/tokens_trained": 100, "sampling/generated_per_trained": 3.0}
  assert token_cost(300, 0)["sampling/generated_per_trained"] == 300


def test_graded_accuracies_are_kept_with_spread_and_not_dropped_in_silence(monkeypatch):
  said = []
  monkeypatch.setattr(
    logging, "log_every_n_seconds", lambda level, message, seconds, *args: said.append(message % args)
  )

  def judge(groups):  # .6, .7, ... within each group
    accuracy = np.linspace(0.6, 0.9, GROUP_SIZE, dtype=np.float32)
    valid, texts = np.ones(GROUP_SIZE, bool), ("",) * GROUP_SIZE
    return [
      dataclasses.replace(
        each, accuracy=accuracy, rewards=accuracy, valid=valid, texts=texts, components={"x": accuracy}
      )
      for each in groups
    ]

  def collected(**changes):
    stream = PromptStream(prompts(500), seed=3)
    settings = make_settings(at_cap=AtCap.TRAIN_PARTIAL, max_prompts=40, **changes)
    engine = ScriptedEngine(geometric_length, slots=16)
    return Collector(engine, stream, judge, groups=8, group_size=GROUP_SIZE, settings=settings).collect()

  assert len(collected(informative=Informative.SPREAD).trained) == 8 and not said
  assert collected(right_above=0.75).metrics["sampling/informative_share"] == 1 and not said
  assert not collected().trained
  assert len(said) == 1 and said[0].startswith(
    "dynamic sampling dropped 40 of 40 groups whose accuracies differ (0.6, "
  )


def test_off_trains_on_whatever_was_drawn():
  collector = make(enabled=False)
  collected = collector.collect()
  assert names(collected.trained) == names([group for group, _ in collected.judged])
  assert len(collected.trained) == collector.groups == collector.stream.position
  assert collected.metrics["sampling/dropped_all_right"] > 0  # counted, though trained on
  assert not collector.carried


@pytest.mark.parametrize("mode", REFILLED)
def test_cap(mode):
  never = dict(rate=lambda prompt: 0.0, max_prompts=20)
  with pytest.raises(SamplingCapReached, match="20 prompts gave 0 informative groups of 8"):
    make(mode, **never, at_cap=AtCap.ERROR).collect()
  for policy in (AtCap.TRAIN_PARTIAL, AtCap.STOP):
    collector = make(mode, **never, at_cap=policy)
    collected = collector.collect()
    assert collected.at_cap and collected.trained == []
    assert collected.metrics["sampling/prompts_drawn"] == 20 == collector.stream.position
    # What was generated for nothing is counted.
    assert collected.metrics["sampling/groups_trained"] == 0 < collected.metrics["sampling/tokens_generated"]
    assert collected.metrics["sampling/dropped_all_wrong"] == 20
    assert collected.metrics["sampling/tokens_generated"] == sum(g.lengths.sum() for g, _ in collected.judged)


@pytest.mark.parametrize("mode", REFILLED)
@pytest.mark.parametrize("policy", [AtCap.TRAIN_PARTIAL, AtCap.STOP])
def test_the_cap_with_some_groups_found(mode, policy):
  collector = make(mode, rate=lambda prompt: 0.5 * (prompt.index % 5 == 0), max_prompts=20, at_cap=policy)
  first, second = collect(collector, 2)
  assert first.at_cap and 0 < len(first.trained) < 8
  assert first.metrics["sampling/prompts_drawn"] == 20 == len(first.judged)
  if policy == AtCap.STOP:
    assert first.metrics["sampling/carried"] == len(first.trained)  # kept for whoever goes on, not thrown away
    assert names(second.trained)[: len(first.trained)] == names(first.trained)
  else:
    assert first.metrics["sampling/groups_trained"] == len(first.trained)
    assert not set(names(first.trained)) & set(names(second.trained))
  assert 0 < second.metrics["sampling/prompts_drawn"] <= 20  # the cap is a step's


def test_a_filter_without_refilling_is_content_with_what_it_finds():
  for policy in AtCap:
    collector = make(Admission.FILTER, rate=lambda prompt: 0.0, at_cap=policy)
    collected = collector.collect()
    assert not collected.at_cap and collected.trained == []
    assert collected.metrics["sampling/prompts_drawn"] == collected.metrics["sampling/dropped_all_wrong"] == 8


@pytest.mark.parametrize("mode", Admission)
def test_an_epoch_that_ends_in_the_middle_of_the_filter(mode):
  # 11 prompts, 8 groups a step and two thirds dropped: every step but those of `filter` crosses an epoch's end.
  collector = make(mode, count=11)
  seen = [name for collected in collect(collector, 4) for name in judged_names(collected)]
  assert len(set(seen)) == len(seen)  # a prompt comes again only with another attempt
  assert max(attempt for _, attempt in seen) >= 2
  whole = len(seen) // 11
  for attempt in range(whole):
    assert sorted(index for index, a in seen if a == attempt) == list(range(11))


def test_failed_verifiers_drop_a_group_without_being_wrong_answers():
  collector = make(rate=lambda prompt: 0.5, invalid=lambda prompt, sample: prompt.index % 2 == 0)
  collected = collector.collect()
  assert collected.metrics["sampling/dropped_invalid"] > 0
  assert all(group.prompt.index % 2 for group in collected.trained)


@pytest.mark.parametrize("mode", Admission)
def test_goes_on_from_its_state_as_if_it_had_not_stopped(mode, tmp_path):
  collector, again = make(mode, retire_after=1), make(mode, retire_after=1)
  collect(collector, 2)
  state = saved(collector, tmp_path)
  again.restore(state, tmp_path)
  assert json.loads(json.dumps(again.state())) == state
  earlier = {name: value for name, value in state.items() if name != "recent_judged"}
  with pytest.raises(InputError, match=r"^checkpoint: the collector's state has no recent_judged; another version"):
    again.restore(earlier, tmp_path)
  for one, two in zip(collect(collector, 3, version=2), collect(again, 3, version=2)):
    assert names(one.trained) == names(two.trained) and judged_names(one) == judged_names(two)
    np.testing.assert_equal(one.metrics, two.metrics)
    for a, b in zip(one.trained, two.trained):
      np.testing.assert_array_equal(a.rewards, b.rewards)
      for x, y in zip(a.answers, b.answers):
        np.testing.assert_array_equal(x.versions, y.versions)
        np.testing.assert_array_equal(x.sampler_logprobs, y.sampler_logprobs)
        assert x.sampler_logprobs.dtype == y.sampler_logprobs.dtype


def test_settings_that_cannot_work():
  with pytest.raises(InputError, match="max_prompts: 4, expected at least 8"):
    make(max_prompts=4)
  with pytest.raises(InputError, match="group_size: 1"):
    Collector(
      ScriptedEngine(geometric_length),
      PromptStream(prompts(3), 0),
      judge_by(),
      groups=2,
      group_size=1,
      settings=make_settings(max_prompts=10),
    )
