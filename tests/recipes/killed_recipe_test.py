"""Tests that recipes which are killed or asked to stop, within and between stages, go on to the same bits.

`runners_test.py` and `tests/pipelines/ppo_test.py` have the same for single stages, in one process.
"""

import signal

import pytest

from tests.recipes import killed_recipe
from tests.recipes.killed_recipe import bits
from tests.recipes.small_recipe import small_recipe

KILL, STOP = int(signal.SIGKILL), int(signal.SIGTERM)
# Within stages of every kind that goes on or starts again, and between them.
BREAKS = {
  "arithmetic": [(KILL, "within", "first"), (KILL, "after", "answers_1"), (STOP, "within", "dpo_1")],
  "deepseek_v3": [
    (STOP, "after", "reflective"),
    (KILL, "within", "expert"),
    (KILL, "within", "judge"),
    (STOP, "within", "v3"),
    (KILL, "after", "distances"),
  ],
  "instructgpt": [
    (KILL, "within", "base"),
    (KILL, "after", "base"),
    (STOP, "within", "wide_base"),
    (KILL, "within", "base_measures"),
    (KILL, "within", "reward"),
    (STOP, "within", "epochs"),
    (KILL, "within", "ppo"),
    (STOP, "after", "ppo"),
    (KILL, "after", "rlhf_measures"),
  ],
  "constitutional_ai": [(KILL, "within", "critic"), (KILL, "after", "revisions"), (STOP, "within", "rl")],
  "llama3": [(STOP, "within", "base"), (KILL, "within", "dpo_latest_1"), (STOP, "within", "sft_1_measures")],
  "r1": [(KILL, "within", "zero"), (STOP, "within", "reasoning"), (KILL, "within", "r1"), (KILL, "after", "curves")],
  "whole_life": [
    (KILL, "after", "raw"),
    (STOP, "within", "pretrained"),
    (KILL, "within", "rl_1"),
    (KILL, "after", "attacked"),
    (STOP, "after", "users"),
    (KILL, "within", "dpo_4"),
  ],
}


@pytest.mark.slow  # starts many processes, of which the first compiles for minutes
@pytest.mark.parametrize("name", BREAKS)
def test_a_recipe_goes_on_to_the_same_bits(name, tmp_path, monkeypatch):
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "programs"))
  monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
  stages = small_recipe(name).stages
  killed_recipe.run(tmp_path / "unbroken", name)
  for each in (*BREAKS[name], ()):
    killed_recipe.run(tmp_path / "killed", name, *each)
  assert bits(tmp_path / "killed", stages) == bits(tmp_path / "unbroken", stages)
  assert (tmp_path / "killed" / "report.html").exists()
