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
pytestmark = pytest.mark.slow  # trains twelve models, two to nine minutes of CPU time


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
  directory = tmp_path_factory.mktemp("broken") / "recipe"
  command = [sys.executable, "-m", "tests.recipes.broken_signals", str(directory)]
  done = subprocess.run(command, cwd=ROOT, env=one_device(), capture_output=True, text=True, timeout=3600)
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads((directory / "metrics.json").read_text())


def check_gain(metrics, stage, measure):
  """Checks that a good signal has a gain which a broken one does not have.

  Both models answer the same requests, so the interval of their difference is taken request by request.
  """
  gains = metrics["gains"]
  gain, broken = gains[f"{stage}/{measure}"], gains[f"{stage}_broken/{measure}"]
  low, over_broken = gains[f"{stage}/{measure}/low"], gains[f"{stage}_over_broken/{measure}/low"]
  assert low > 0, f"{measure}: a gain of {gain} from {low} on"
  assert over_broken > 0, f"{measure}: better than with a broken signal from {over_broken} on"
  assert broken < gain / 4, f"{measure}: {broken} with a broken signal, {gain} with a good one"


@pytest.mark.parametrize("measure", ["seen/rated", "seen/answers", "held_out/rated"])
def test_a_model_answers_because_demonstrations_do(metrics, measure):
  check_gain(metrics, "sft", measure)


def test_a_model_refuses_harm_and_not_the_rest_because_demonstrations_do(metrics):
  """Compares with harmless requests: refusals at random places teach a model to refuse a share of everything."""
  gains = metrics["gains"]
  harm, harmless = "seen/harm_refused", "seen/over_refused"
  assert gains[f"sft/{harm}/low"] > gains[f"sft/{harmless}/high"]
  assert gains[f"sft_broken/{harm}/low"] <= gains[f"sft_broken/{harmless}/high"]
  assert gains[f"sft_over_broken/{harm}/low"] > 0 > gains[f"sft_over_broken/{harmless}/high"]


def test_a_reward_model_tells_the_better_answer_because_people_say_which_it_is(metrics):
  good, broken = metrics["reward"], metrics["reward_broken"]
  assert good["eval/heldout/accuracy_low"] > 0.6
  assert broken["eval/heldout/accuracy_low"] < 0.5 < broken["eval/heldout/accuracy_high"] < 0.6


@pytest.mark.parametrize("measure", ["seen/rated", "held_out/rated"])
def test_dpo_raises_what_people_prefer(metrics, measure):
  """Compares with the broken signal only: a model this small loses by any DPO what labels make it gain."""
  assert metrics["gains"][f"dpo_over_broken/{measure}/low"] > 0


@pytest.mark.parametrize("measure", ["seen/rated", "held_out/rated"])
def test_ppo_raises_what_the_reward_model_learned_from_people(metrics, measure):
  check_gain(metrics, "ppo", measure)


@pytest.mark.parametrize("measure", ["seen/sums", "held_out/sums"])
def test_grpo_raises_what_rules_reward(metrics, measure):
  check_gain(metrics, "grpo", measure)
