"""Tests the programs of a model that a run attacks."""

import pytest

from configs import tiny_dapo
from configs.recipes import attacker_sections
from posttrain_jax.performance.compile import proof
from posttrain_jax.performance.compile.program import bytes_per_device
from posttrain_jax.types import InputError
from tests.performance.compile.small_config import programs, small

CHANGES = {"dynamic_sampling.enabled": False}


def test_an_attacking_step():
  plain, config = programs(small(tiny_dapo, **CHANGES)), small(tiny_dapo, **CHANGES).unlock()
  config.target = attacker_sections.target()
  config.target.update(path="somewhere", asks="correct", slots=16, max_prompt_length=40, max_new_tokens=24)
  run = programs(config)
  assert set(run.programs) - set(plain.programs) == {"target_prefill", "target_decode"}
  assert set(run.arrays) - set(plain.arrays) == {"target", "target_caches"}
  # 8 groups of 4 answers; 16 at a time, 24 tokens at 16 a dispatch.
  assert run.programs["target_decode"].calls == 2 * 2
  for name in ("target_prefill", "target_decode"):
    proof.lower(run.programs[name])  # arguments that do not fit would be refused
    assert run.programs[name].takes == ("target", "target_caches") and run.programs[name].frees == ("caches",)
  for name, program in plain.programs.items():
    assert run.programs[name].frees == (*program.frees, "target_caches")
  assert bytes_per_device(run.arrays["target_caches"]) > 0
  config.target.judge = attacker_sections.target_judge()
  config.target.judge.path = "judge"
  with pytest.raises(InputError, match=r"target.judge: its programs are not among those that are compiled"):
    programs(config)
