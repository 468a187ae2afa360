import dataclasses
import json
import random
import time

import numpy as np
import pytest

from posttrain_jax.data.stream import PromptStream
from posttrain_jax.pipelines.dynamic_sampling import (
  Admission,
  AtCap,
  Collector,
  DynamicSampling,
  SamplingCapReached,
  Verdict,
  verdict,
)
from posttrain_jax.pipelines.journal import reproducible
from posttrain_jax.pipelines.rollout_metrics import token_cost
from posttrain_jax.types import Group, InputError, Prompt
from tests.pipelines.scripted_engine import ScriptedEngine, prompts

GROUP_SIZE = 4


def seeded(*names):
  return random.Random("/".join(map(str, names)))


def geometric_length(prompt, sample):
  """Mean about 16, independent of correctness."""
  return 1 + int(seeded("length", prompt.index, sample, prompt.attempt).expovariate(1 / 15))


def is_right(prompt, sample, rate):
  return seeded("right", prompt.index, sample, prompt.attempt).random() < rate(prompt)


def difficulty(prompt):
  """A third of the prompts never solved, a third always, a third half the time."""
  return (0.0, 0.5, 1.0)[seeded("rate", prompt.index).randrange(3)]


def judge_by(rate=difficulty, invalid=lambda prompt, sample: False, delay=0.0):
  def judge(groups):
    if delay:
      time.sleep(random.random() * delay)
    judged = []
    for group in groups:
      right = np.array([is_right(group.prompt, s, rate) for s in range(len(group.answers))], np.float32)
      valid = np.array([not invalid(group.prompt, s) for s in range(len(group.answers))])
      # The shaped reward differs within every group, which must make no group informative.
      rewards = right - 0.01 * group.lengths.astype(np.float32)
      texts = ("",) * len(group.answers)
      judged.append(
        dataclasses.replace(group, texts=texts, components={"x": right}, accuracy=right, rewards=rewards, valid=valid)
      )
    return judged

  return judge


def make(mode=Admission.DRAIN, *, groups=8, rate=difficulty, count=500, length=geometric_length, **options):
  judge = judge_by(rate, options.pop("invalid", lambda prompt, sample: False), options.pop("delay", 0.0))
  settings = DynamicSampling(**{"admission": mode, "max_prompts": 400, **options})
  engine = ScriptedEngine(length)
  stream = PromptStream(prompts(count), seed=3)
  return Collector(engine, stream, judge, groups=groups, group_size=GROUP_SIZE, settings=settings)


def names(groups):
  return [(group.prompt.index, group.prompt.attempt) for group in groups]


def judged_group(accuracy, valid=None):
  accuracy = np.array(accuracy, np.float32)
  valid = np.ones(accuracy.shape, bool) if valid is None else np.array(valid)
  return Group(Prompt(0, (1,), {}), (None,) * len(accuracy), accuracy=accuracy, rewards=accuracy, valid=valid)


@pytest.mark.parametrize(
  ("accuracy", "valid", "expected"),
  [
    ([1, 0, 0], None, Verdict.TRAINED),
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


@pytest.mark.parametrize("mode", Admission)
def test_trains_on_the_first_informative_groups_in_prompt_order(mode):
  collector = make(mode)
  stream = PromptStream(prompts(500), seed=3)
  expected = []
  while len(expected) < 40:
    (prompt,) = stream.next(1)
    right = sum(is_right(prompt, s, difficulty) for s in range(GROUP_SIZE))
    if 0 < right < GROUP_SIZE:
      expected.append((prompt.index, prompt.attempt))
  found = [name for _ in range(5) for name in names(collector.collect().trained)]
  assert found == expected


@pytest.mark.parametrize("mode", Admission)
def test_every_group_that_was_started_is_judged_and_none_is_cut_off(mode):
  collector = make(mode)
  drawn = 0
  for _ in range(4):
    collected = collector.collect()
    drawn += len(collected.judged)
    assert collector.stream.position == drawn
    assert not collector.engine.busy
    assert collected.metrics["sampling/tokens_generated"] == sum(g.lengths.sum() for g, _ in collected.judged)


def test_drain_carries_the_surplus_into_the_next_step():
  collector = make(Admission.DRAIN, rate=lambda prompt: 0.5)
  collected = collector.collect()
  for _ in range(20):  # until a wave has more informative groups than the share of late promised
    if collector.carried:
      break
    collected = collector.collect()
  carried = names(collector.carried)
  assert carried == names([g for g, outcome in collected.judged if outcome == Verdict.CARRIED])
  assert collected.metrics["sampling/carried"] == len(carried) > 0
  collector.engine.version = 1
  after = collector.collect()
  assert names(after.trained)[: len(carried)] == carried[: len(after.trained)]
  assert after.metrics["sampling/staleness_max"] == 1


def test_staleness_is_bounded_when_prompts_suddenly_become_informative():
  rate = {"now": 0.02}
  collector = make(Admission.DRAIN, rate=lambda prompt: rate["now"], count=10_000)
  stale = []
  for version in range(8):
    if version == 4:
      rate["now"] = 0.5
    collector.engine.version = version
    collected = collector.collect()
    assert len(collector.carried) < 2 * collector.groups
    stale.append(collected.metrics["sampling/staleness_max"])
  assert collector.informative_share > 0.5  # it really jumped, from less than 0.1
  assert 1 <= max(stale) <= 2


def test_exact_is_on_policy_and_never_has_more_than_n_open_or_accepted():
  collector = make(Admission.EXACT)
  for version in range(4):
    collector.engine.version = version
    collected = collector.collect()
    assert len(collected.trained) == collector.groups
    assert collected.metrics["sampling/staleness_max"] == 0
    assert not collector.carried
  assert collector.engine.most_open <= collector.groups


@pytest.mark.parametrize("mode", Admission)
def test_random_verifier_delays_change_nothing(mode):
  plain, delayed = make(mode), make(mode, delay=0.004)
  for _ in range(3):
    one, other = plain.collect(), delayed.collect()
    assert names(one.trained) == names(other.trained)
    np.testing.assert_equal(reproducible(one.metrics), reproducible(other.metrics))


@pytest.mark.parametrize("mode", Admission)
def test_no_bias_towards_short_answers(mode):
  # Length and correctness are independent, so trained and generated lengths have the same mean. About 4,800 trained
  # answers with a standard deviation of 15: the difference of the means has a standard error of 0.27.
  collector = make(mode, groups=30, count=100_000)
  trained, generated, cut = [], [], [[], []]
  for _ in range(40):
    collected = collector.collect()
    trained += [n for group in collected.trained for n in group.lengths]
    generated += [n for group, _ in collected.judged for n in group.lengths]
    cut[0] += [t for group in collected.trained for t in group.truncated]
    cut[1] += [t for group, _ in collected.judged for t in group.truncated]
  error = np.std(generated) * np.sqrt(1 / len(trained) + 1 / len(generated))
  assert len(trained) == 4800 and error < 0.3
  assert abs(np.mean(trained) - np.mean(generated)) < 3 * error
  assert abs(np.mean(cut[0]) - np.mean(cut[1])) < 3 * np.sqrt(np.mean(cut[1]) / len(trained)) + 1e-9


def test_the_bias_test_would_notice_cutting_off_what_still_runs():
  # What the mode must not do: take groups as they finish and drop what is running once there are enough.
  engine, stream, judge = ScriptedEngine(geometric_length, slots=240), PromptStream(prompts(100_000), 3), judge_by()
  trained, generated = [], []
  for _ in range(40):
    for prompt in stream.next(120):
      engine.submit(prompt, GROUP_SIZE)
    kept = []
    while len(kept) < 30 and engine.busy:
      for group in judge(engine.step()):
        generated += list(group.lengths)
        kept += [group] * (verdict(group) == Verdict.TRAINED)
    engine.queue.clear(), engine.running.clear(), engine.sizes.clear()
    trained += [n for group in kept[:30] for n in group.lengths]
  assert np.mean(trained) < 0.95 * 16


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


def test_off_trains_on_whatever_was_drawn():
  collector = make(enabled=False)
  collected = collector.collect()
  assert names(collected.trained) == names([group for group, _ in collected.judged])
  assert len(collected.trained) == collector.groups == collector.stream.position
  assert collected.metrics["sampling/dropped_all_right"] > 0  # counted, though trained on
  assert not collector.carried


@pytest.mark.parametrize("mode", Admission)
def test_cap(mode):
  never = dict(rate=lambda prompt: 0.0, max_prompts=20)
  with pytest.raises(SamplingCapReached, match="20 prompts gave 0 informative groups of 8"):
    make(mode, **never, at_cap=AtCap.ERROR).collect()
  for policy in (AtCap.TRAIN_PARTIAL, AtCap.STOP):
    collector = make(mode, **never, at_cap=policy)
    collected = collector.collect()
    assert collected.at_cap and collected.trained == []
    assert collected.metrics["sampling/prompts_drawn"] == 20 == collector.stream.position
    assert collected.metrics["sampling/groups_trained"] == 0 < collected.metrics["sampling/tokens_generated"]


@pytest.mark.parametrize("mode", Admission)
def test_an_epoch_that_ends_in_the_middle_of_the_filter(mode):
  # 11 prompts, 8 groups a step and two thirds dropped: every step crosses an epoch's end.
  collector = make(mode, count=11)
  seen = []
  for _ in range(4):
    seen += names([group for group, _ in collector.collect().judged])
  assert len(set(seen)) == len(seen)  # a prompt comes again only with another attempt
  for attempt in range(max(attempt for _, attempt in seen)):
    assert sorted(index for index, a in seen if a == attempt) == list(range(11))


def test_failed_verifiers_drop_a_group_without_being_wrong_answers():
  collector = make(rate=lambda prompt: 0.5, invalid=lambda prompt, sample: prompt.index % 2 == 0)
  collected = collector.collect()
  assert collected.metrics["sampling/dropped_invalid"] > 0
  assert all(group.prompt.index % 2 for group in collected.trained)


@pytest.mark.parametrize("mode", Admission)
def test_goes_on_from_its_state_as_if_it_had_not_stopped(mode):
  collector = make(mode)
  collector.collect()
  state = json.loads(json.dumps(collector.state()))
  other = make(mode)
  other.restore(state)
  for _ in range(2):
    one, two = collector.collect(), other.collect()
    assert names(one.trained) == names(two.trained)
    np.testing.assert_equal(one.metrics, two.metrics)
    for a, b in zip(one.trained, two.trained):
      np.testing.assert_array_equal(a.rewards, b.rewards)
      np.testing.assert_array_equal(a.answers[0].sampler_logprobs, b.answers[0].sampler_logprobs)
      assert a.answers[0].sampler_logprobs.dtype == b.answers[0].sampler_logprobs.dtype


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
      settings=DynamicSampling(max_prompts=10),
    )
