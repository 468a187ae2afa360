"""Tests the programs of a second engine: of a judge, and of a model that is attacked."""

import dataclasses

import pytest

from configs import tiny_collect, tiny_dapo, tiny_generative_grpo
from configs.recipes import attacker_sections
from posttrain_jax.performance.compile import proof
from posttrain_jax.performance.compile.program import bytes_per_device
from posttrain_jax.types import InputError
from tests.performance.compile.small_config import programs, small

JUDGE = {"path": "somewhere", "slots": 16, "max_prompt_length": 40, "max_new_tokens": 24, "high": 9}


def judged(base, **changes):
  config = small(base)
  plain = programs(config)
  config.judge = tiny_generative_grpo.judge()
  config.judge.update(**JUDGE | changes)
  if config.judge.votes > 1:
    config.judge.sampling.temperature = 1.0
  return plain, programs(config)


@pytest.mark.parametrize("changes", [{}, {"path": "", "self_rewarding": True}, {"votes": 2, "reading": "sampled"}])
def test_a_judged_step(changes):
  plain, run = judged(tiny_dapo, **changes)
  own = {"judge_prefill", "judge_decode"} | ({"judge_reading"} if "reading" not in changes else set())
  assert set(run.programs) - set(plain.programs) == own
  added = {"judge_caches"} | (set() if changes.get("self_rewarding") else {"judge"})
  assert set(run.arrays) - set(plain.arrays) == added
  holder = "sampler" if changes.get("self_rewarding") else "judge"
  # 8 groups of 4 answers; 16 at a time, 24 tokens at 16 a dispatch.
  votes = changes.get("votes", 1)
  assert run.programs["judge_decode"].calls == 2 * votes * 2
  assert run.programs["judge_decode"].takes == (holder, "judge_caches")
  assert run.programs["judge_decode"].frees == ("caches",)
  for name in own:
    proof.lower(run.programs[name])  # arguments that do not fit would be refused
  for name, program in plain.programs.items():
    # The judge's caches are free while the policy draws and learns; its parameters stay.
    assert run.programs[name] == dataclasses.replace(
      program, frees=(*program.frees, "judge_caches"), **_same(run, name)
    )
  if "judge_reading" in own:
    # Rows of 64 tokens, 64 at a time.
    reading = run.programs["judge_reading"]
    assert (reading.calls, reading.work.tokens) == (1, 64 * 64)
    assert reading.arguments[-1].shape == (10,)
  assert bytes_per_device(run.arrays["judge_caches"]) > 0


def _same(run, name):
  """Returns what two makings of one program do not share."""
  return {field: getattr(run.programs[name], field) for field in ("function", "arguments")}


def test_a_judged_collection():
  plain, run = judged(tiny_collect)
  assert set(run.programs) - set(plain.programs) == {"judge_prefill", "judge_decode", "judge_reading"}
  assert "judge_caches" in run.programs["decode"].frees


def test_an_attacking_step():
  changes = {"dynamic_sampling.enabled": False}
  plain, config = programs(small(tiny_dapo, **changes)), small(tiny_dapo, **changes).unlock()
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
