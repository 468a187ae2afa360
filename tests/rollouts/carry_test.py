"""Tests groups that go on into the next step.

Tested are what they may wait for, how stale they get, and what a checkpoint keeps of them.
"""

import dataclasses
import threading

import numpy as np
import pytest

from posttrain_jax.rollouts.dynamic_sampling import Admission
from posttrain_jax.types import FinishReason
from tests.pipelines.scripted_collector import collect, geometric_length, judge_by, judged_names, make, names, saved

CARRY = Admission.CARRY


def carrying(**options):
  return make(CARRY, **{"slots": 64, "count": 10_000, **options})


def test_groups_go_on_in_the_middle_of_their_answers():
  steps = collect(carrying(), 10)
  mixed = [
    answer
    for collected in steps
    for group in collected.trained
    for answer in group.answers
    if len(set(answer.versions.tolist())) > 1
  ]
  assert len(mixed) > 10  # begun under one version, ended under the next
  assert all((np.diff(answer.versions) >= 0).all() for answer in mixed)
  assert all(answer.finish_reason in (FinishReason.EOS, FinishReason.LENGTH) for answer in mixed)
  last = steps[-1].metrics
  assert last["sampling/in_flight_groups"] > 0 < last["sampling/in_flight_tokens"]
  assert 0 < last["sampling/staleness_mean"] < 1


@pytest.mark.parametrize("max_staleness", [0, 1, 3])
@pytest.mark.parametrize("slots", [16, 64, 400])
def test_staleness_is_bounded_by_admitting_less(max_staleness, slots):
  # Prompts are hard at first and then all informative, the worst that can happen to a line that filled up before.
  rate = lambda prompt: 0.05 if prompt.index % 2 else 0.5  # noqa: E731
  steps = collect(carrying(max_staleness=max_staleness, slots=slots, rate=rate), 12)
  stale = [collected.metrics["sampling/staleness_max"] for collected in steps]
  assert max(stale) <= max_staleness
  if max_staleness and slots == 400:
    assert max(stale) == max_staleness  # the bound is reached: it is what limits
  assert all(len(collected.trained) == 8 for collected in steps)


def test_staleness_of_zero_leaves_nothing_in_flight():
  for collected in collect(carrying(max_staleness=0), 4):
    assert collected.metrics["sampling/in_flight_groups"] == collected.metrics["sampling/carried"] == 0


def test_slots_are_busy():
  carry, exact = carrying(slots=16), make(Admission.EXACT, slots=16, count=10_000)
  idle = [np.mean([c.metrics["sampling/idle_share"] for c in collect(each, 12)[4:]]) for each in (carry, exact)]
  assert idle[0] < 0.2 < idle[1]


def test_a_long_answer_at_the_head_holds_up_those_behind_it():
  # One answer of the stream's third prompt has 60 tokens, all others have 4, and a dispatch draws 4.
  slow = judged_names(make(Admission.DRAIN, count=10_000).collect())[2]
  length = lambda prompt, sample: 60 if ((prompt.index, prompt.attempt), sample) == (slow, 0) else 4  # noqa: E731
  collector = carrying(length=length, slots=16, groups=2, rate=lambda prompt: 0.5, max_staleness=40)
  first, second = collect(collector, 2)
  assert slow not in judged_names(first) and first.metrics["sampling/decode_steps"] < 12
  assert slow in judged_names(second)[:2] and second.metrics["sampling/decode_steps"] > 40  # no group overtook it
  for collected in (first, second):
    assert collected.metrics["sampling/waiting_tokens"] == 16 * collected.metrics["sampling/waiting_groups"]
  assert first.metrics["sampling/waiting_groups"] > 0
  assert second.metrics["sampling/carried"] > 20  # what became of those that had waited


def test_verdicts_take_effect_at_a_dispatch_not_when_they_are_there():
  runs = {delay: collect(carrying(verdict_delay=delay), 4) for delay in (0, 1, 5)}
  trained = {delay: [name for c in steps for name in names(c.trained)] for delay, steps in runs.items()}
  assert trained[0] == trained[1] == trained[5]  # in prompt order, whenever
  dispatches = [sum(c.metrics["sampling/dispatches"] for c in steps) for steps in runs.values()]
  assert dispatches[0] < dispatches[2]


def test_the_engine_runs_on_while_a_verdict_is_under_way():
  """Delays the verifier: it does not answer before the engine has gone two dispatches further."""
  steps, enough = [], threading.Event()
  collector = carrying(verdict_delay=4)
  judge, step = judge_by(), collector.engine.step

  def slow(groups):
    assert enough.wait(30)
    return judge(groups)

  def counted():
    steps.append(1)
    if len(steps) >= 4:
      enough.set()
    return step()

  collector.line._judge, collector.engine.step = slow, counted
  expected = carrying(verdict_delay=4).collect()
  assert names(collector.collect().trained) == names(expected.trained)


def test_a_verifier_that_raises_ends_the_step():
  def broken(groups):
    raise RuntimeError("no verdict")

  collector = carrying()
  collector.line._judge = broken
  with pytest.raises(RuntimeError, match="no verdict"):
    collector.collect()


def test_a_checkpoint_replays_verdicts_and_holds_tokens_and_positions(tmp_path):
  collector, again = carrying(verdict_delay=6), carrying(verdict_delay=6)
  collect(collector, 3)
  state = saved(collector, tmp_path)
  line = list(zip(state["line"], collector.line.groups(), strict=True))
  open_, finished = [[each for each in line if (each[0] is None) == under] for under in (True, False)]
  assert open_ and any(due > 0 for due, _ in finished)  # the engine was ahead of some verdicts
  reasons = {answer.finish_reason for _, group in open_ for answer in group.answers}
  assert FinishReason.SUSPENDED in reasons
  assert all(group.accuracy is None for _, group in open_)
  # Of all that can be asked again: what was judged already is not.
  asked, judge = [], judge_by()
  again.restore(state, tmp_path)
  again.line._judge = lambda groups: (asked.extend(names(groups)), judge(groups))[1]
  for one, two in zip(collect(collector, 3, version=3), collect(again, 3, version=3)):
    assert names(one.trained) == names(two.trained)
    np.testing.assert_equal(one.metrics, two.metrics)
  replayed = set(names([group for _, group in finished]))
  assert asked and not replayed & set(asked)


def test_lengths_are_those_of_the_script():
  """A resumed answer is as long as one that was never interrupted."""
  steps = collect(carrying(), 5)
  for collected in steps:
    for group, _ in collected.judged:
      assert group.lengths.tolist() == [min(64, geometric_length(group.prompt, s)) for s in range(4)]


def test_a_model_judges_on_the_engines_thread_and_each_group_once():
  collector, threads, asked = carrying(verdict_delay=3), set(), []
  judge = judge_by()

  def verify(groups):
    threads.add(threading.current_thread())
    return judge(groups)

  def rejudge(groups):
    assert threading.current_thread() is threading.main_thread()
    asked.extend(names(groups))
    return [dataclasses.replace(group, rewards=group.rewards + 7) for group in groups]

  collector.line._judge, collector.line._rejudge = verify, rejudge
  expected = collect(carrying(verdict_delay=3), 3)
  for one, other in zip(collect(collector, 3), expected):
    assert names(one.trained) == names(other.trained)
    for a, b in zip(one.trained, other.trained):
      np.testing.assert_array_equal(a.rewards, b.rewards + 7)
    assert one.metrics["reward/mean"] == pytest.approx(other.metrics["reward/mean"] + 7, rel=1e-5)
  assert threads and threading.main_thread() not in threads
  assert len(asked) == len(set(asked))


def test_bytes_made_later_are_those_of_the_moment(tmp_path):
  """A checkpoint's files are written while the next step runs."""
  collector = carrying(verdict_delay=6)
  collect(collector, 3)
  ((_, make_bytes),) = collector.saved_files().items()
  before = make_bytes()
  collect(collector, 2, version=3)
  assert make_bytes() == before
