"""Tests the program of a reward model that scores a run's answers."""

import dataclasses

import pytest

from configs import tiny_collect, tiny_dapo
from posttrain_jax.performance.compile import proof
from tests.performance.compile.small_config import programs, small


@pytest.mark.parametrize("base", [tiny_collect, tiny_dapo])
def test_a_scored_step(base):
  changes = {"dynamic_sampling.enabled": False} if base is tiny_dapo else {}
  plain, run = programs(small(base, **changes)), programs(small(base, reward_model="somewhere", **changes))
  assert set(run.programs) - set(plain.programs) == set(run.arrays) - set(plain.arrays) == {"reward"}
  reward = run.programs["reward"]
  assert reward.takes == ("reward",) and reward.work.pairs > 0 and reward.calls >= 1
  assert reward.frees == ()  # the engine keeps its caches while answers are scored
  proof.lower(reward)  # arguments that do not fit would be refused
  for name, program in plain.programs.items():  # which the reward model stays beside
    same = {field.name: getattr(run.programs[name], field.name) for field in dataclasses.fields(program)}
    assert (same["calls"], same["takes"], same["frees"]) == (program.calls, program.takes, program.frees)
