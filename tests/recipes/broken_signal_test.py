"""Tests that what a stage gains comes from its signal: with a broken one the gain is gone.

Gains are over the model that a stage starts from, so what that does by itself is no gain.
"""

import json
import pathlib
import subprocess
import sys

import pytest

from tests.compiler_flags import one_device

ROOT = pathlib.Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow  # trains twelve models, nine minutes of CPU time


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
  directory = tmp_path_factory.mktemp("broken") / "recipe"
  command = [sys.executable, "-m", "tests.recipes.broken_signals", str(directory)]
  done = subprocess.run(command, cwd=ROOT, env=one_device(), capture_output=True, text=True, timeout=3600)
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads((directory / "metrics.json").read_text())


def check_gain(metrics, stage, measure):
  """Checks that a good signal has a gain which a broken one does not have."""
  low, gain, high, broken = (
    metrics["gains"][f"{name}/{measure}{end}"]
    for name, end in ((stage, "/low"), (stage, ""), (f"{stage}_broken", "/high"), (f"{stage}_broken", ""))
  )
  assert low > 0, f"{measure}: a gain of {gain} from {low} on"
  assert high < low and broken < gain / 4, (
    f"{measure}: {broken} up to {high} with a broken signal, {gain} from {low} on"
  )


@pytest.mark.parametrize("measure", ["seen/rated", "seen/answers", "seen/harm_refused", "held_out/rated"])
def test_a_model_answers_because_demonstrations_do(metrics, measure):
  check_gain(metrics, "sft", measure)


def test_a_reward_model_tells_the_better_answer_because_people_say_which_it_is(metrics):
  good, broken = metrics["reward"], metrics["reward_broken"]
  assert good["eval/heldout/accuracy_low"] > 0.6
  assert broken["eval/heldout/accuracy_low"] < 0.5 < broken["eval/heldout/accuracy_high"] < 0.6


def test_dpo_raises_what_people_prefer(metrics):
  """Compares with the broken signal only: a model this small loses by any DPO what labels make it gain."""
  gains = metrics["gains"]
  assert gains["dpo/seen/rated"] > 0 > gains["dpo_broken/seen/rated"]
  assert gains["dpo/seen/rated/low"] > gains["dpo_broken/seen/rated/high"]


@pytest.mark.parametrize("measure", ["seen/rated", "held_out/rated"])
def test_ppo_raises_what_the_reward_model_learned_from_people(metrics, measure):
  gains = metrics["gains"]
  assert gains[f"ppo/{measure}/low"] > 0 > gains[f"ppo_broken/{measure}/low"]
  assert gains[f"ppo_broken/{measure}"] < gains[f"ppo/{measure}"] / 4


@pytest.mark.parametrize("measure", ["seen/sums", "held_out/sums"])
def test_grpo_raises_what_rules_reward(metrics, measure):
  gains = metrics["gains"]
  assert gains[f"grpo/{measure}/low"] > 0
  assert gains[f"grpo_broken/{measure}"] < gains[f"grpo/{measure}"] / 4
