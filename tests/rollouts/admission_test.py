"""Tests what each mode promises by itself, and that no mode prefers short answers."""

import numpy as np
import pytest

from posttrain_jax.data.stream import PromptStream
from posttrain_jax.rollouts.dynamic_sampling import Admission, Outcome, Verdict, verdict
from tests.pipelines.scripted_collector import (
  GROUP_SIZE,
  collect,
  geometric_length,
  judge_by,
  make,
  names,
)
from tests.pipelines.scripted_engine import ScriptedEngine, prompts

CAP = 64


def test_drain_carries_the_surplus_into_the_next_step():
  collector = make(Admission.DRAIN, rate=lambda prompt: 0.5)
  collected = collector.collect()
  for _ in range(20):  # until a wave has more informative groups than the recent share promised
    if collector.carried:
      break
    collected = collector.collect()
  carried = names(collector.carried)
  assert carried == names([g for g, outcome in collected.judged if outcome == Outcome.CARRIED])
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
  for collected in collect(collector, 4):
    assert len(collected.trained) == collector.groups
    assert collected.metrics["sampling/staleness_max"] == 0
    assert not collector.carried
  assert collector.engine.most_open <= collector.groups


def test_batches_are_whole_and_nothing_outlives_their_step():
  collector = make(Admission.BATCH, rate=lambda prompt: 0.2, batch_factor=2)
  for collected in collect(collector, 4):
    assert collected.metrics["sampling/prompts_drawn"] % (2 * collector.groups) == 0
    assert collected.metrics["sampling/staleness_max"] == collected.metrics["sampling/carried"] == 0
  # The last batch before the cap is what the cap leaves of it.
  capped = make(Admission.BATCH, rate=lambda prompt: 0.0, max_prompts=20, at_cap="train_partial")
  assert capped.collect().metrics["sampling/prompts_drawn"] == 20


def lengths_of_all(drawn, count):
  """Returns lengths of every started answer: all samples of the first prompts of the stream."""
  stream = PromptStream(prompts(count), seed=3)
  return np.array([min(CAP, geometric_length(p, s)) for p in stream.next(drawn) for s in range(GROUP_SIZE)])


def deviations(trained, started):
  """Compares mean length and truncation share of trained answers with those of all, in standard errors.

  Where correctness does not depend on length, the trained are a random part, n of m: their mean differs from the mean
  of all with variance σ² (1/n - 1/m).
  """
  trained = np.array(trained)
  scale = np.sqrt(1 / len(trained) - 1 / len(started))
  cut, all_cut = trained == CAP, started == CAP
  length = (trained.mean() - started.mean()) / (started.std() * scale)
  return length, (cut.mean() - all_cut.mean()) / (all_cut.std() * scale)


@pytest.mark.parametrize("mode", Admission)
def test_no_bias_towards_short_answers(mode):
  groups = 100 if mode == Admission.FILTER else 30
  collector = make(mode, groups=groups, count=10_000, slots=240)
  steps = collect(collector, 16)
  trained = [n for collected in steps for group in collected.trained for n in group.lengths]
  assert len(trained) == 1920 or (mode == Admission.FILTER and len(trained) > 1600)
  found = deviations(trained, lengths_of_all(collector.stream.position, 10_000))
  assert np.abs(found).max() < 3, found
  # What the metrics call generated is the same population.
  generated = [n for collected in steps for group, _ in collected.judged for n in group.lengths]
  found = deviations(trained, np.array(generated))
  assert np.abs(found).max() < 3, found


def test_the_bias_test_would_notice_cutting_off_what_still_runs():
  # What no mode may do: take groups as they finish and drop what is running once there are enough.
  engine, stream, judge = ScriptedEngine(geometric_length, slots=240), PromptStream(prompts(10_000), 3), judge_by()
  trained = []
  for _ in range(16):
    for prompt in stream.next(120):
      engine.submit(prompt, GROUP_SIZE)
    kept = []
    while len(kept) < 30 and engine.busy:
      kept += [group for group in judge(engine.step()) if verdict(group) == Verdict.INFORMATIVE]
    engine.suspend()  # and never resumed
    trained += [n for group in kept[:30] for n in group.lengths]
  length, truncated = deviations(trained, lengths_of_all(stream.position, 10_000))
  assert length < -3 and truncated < -3
