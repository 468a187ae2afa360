"""Tests that timings measure what they claim.

The benchmark shows how fast the engine is; a test does not.
"""

import pytest

from posttrain_jax.performance import rollout
from posttrain_jax.performance.work import Work
from tests.performance.small_work import MODEL, WORK


def test_rollout():
  found = rollout.rollout(WORK)
  assert found["tokens"] == 8 * 2 * 4 and found["runs"] == 2 and found["idle_share"] == 0
  assert all(value > 0 for name, value in found.items() if name != "idle_share")
  assert found["share_of_limit"] == pytest.approx(
    found["tokens_per_second"] / found["limit_tokens_per_second"], rel=0.01
  )


def test_unequal_lengths_are_geometric_and_compared_with_waiting():
  work = Work(MODEL, prompts=32, group=4, prompt_length=3, new_tokens=24, slots=16, mean_length=8, runs=1)
  found = rollout.rollout(work)
  # Of one id in eight drawn by weights that are not quite uniform; the cap takes off a share of e^-3.
  assert 0.6 * 8 < found["tokens"] / work.answers < 1.2 * 8
  assert 0 < found["idle_share"] < 1
  assert found["waiting_tokens_per_second"] > 0


def test_forced_lengths_do_not_depend_on_the_cap():
  found = []
  for cap in (24, 48):
    work = Work(MODEL, prompts=8, group=4, prompt_length=3, new_tokens=cap, slots=16, mean_length=8, clip_length=20)
    engine = rollout.loaded_engine(work)
    groups = engine.generate(work.draw_prompts(), work.group)
    found.append([len(answer.tokens) for group in groups for answer in group.answers])
  assert found[0] == found[1] and max(found[0]) <= 20 and 4 < sum(found[0]) / 32 < 12
