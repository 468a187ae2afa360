"""Tests that DeepSeek-V3's expert and its reward models learn from their signals: with broken ones they do not."""

import json
import pathlib
import subprocess
import sys

import pytest

from tests.compiler_flags import one_device

ROOT = pathlib.Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow  # trains eight models


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
  directory = tmp_path_factory.mktemp("broken") / "recipe"
  command = [sys.executable, "-m", "tests.recipes.broken_expert", str(directory)]
  done = subprocess.run(command, cwd=ROOT, env=one_device(), capture_output=True, text=True, timeout=3600)
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads((directory / "metrics.json").read_text())


def test_the_expert_checks_its_work_because_right_checks_are_rewarded(metrics):
  gains = metrics["gains"]
  for part in ("seen", "held_out"):
    measure = f"{part}/sums_checked"
    assert gains[f"expert/{measure}/low"] > 0
    assert gains[f"expert_over_broken/{measure}/low"] > 0
    assert gains[f"expert_broken/{measure}"] < gains[f"expert/{measure}"] / 4


def test_both_reward_models_tell_the_better_answer_because_of_its_judgement(metrics):
  for name, accuracy in (("judge", "eval/expected/pair_accuracy"), ("preference", "eval/heldout/accuracy")):
    good, broken = metrics[name], metrics[f"{name}_broken"]
    assert good[f"{accuracy}_low"] > 0.6, name
    assert broken[f"{accuracy}_high"] < min(good[f"{accuracy}_low"], 0.6), name
