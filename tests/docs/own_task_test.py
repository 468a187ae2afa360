"""Follows docs/own_task.md in an empty directory."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from configs import own_task, smollm2_dpo
from posttrain_jax.assembly.comparisons import load_comparisons
from posttrain_jax.assembly.demonstrations import read_demonstrations
from posttrain_jax.assembly.model import load_policy
from posttrain_jax.assembly.prompts import load_prompts
from posttrain_jax.pipelines.dpo import DPOSettings
from posttrain_jax.pipelines.grpo_settings import GRPOSettings
from posttrain_jax.pipelines.sft import SFTSettings
from posttrain_jax.rewards.worker_main import load_function
from posttrain_jax.runs.journal import read_metrics
from posttrain_jax.runs.settings import parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "own_task.md").read_text("utf-8")
BLOCKS = re.findall(r"^(Write `[^`]+`|Run it):\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
RECORDS = {"sft": SFTSettings, "dpo": DPOSettings, "rl": GRPOSettings}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  """Makes a directory with the files that the page writes."""
  path = tmp_path_factory.mktemp("own")
  for instruction, text in BLOCKS:
    if instruction.startswith("Write"):
      (path / instruction.split("`")[1]).write_text(text, "utf-8")
  subprocess.run([sys.executable, "make_data.py"], cwd=path, check=True)
  return path


def settings(method, **changes):
  config = own_task.get_config(method)
  config.update_from_flattened_dict(changes)
  return parse(RECORDS[method.partition("_")[0]], config)


@pytest.mark.parametrize("method", ["sft", "dpo", "rl", "sft_smollm2", "dpo_smollm2", "rl_smollm2"])
def test_the_template_is_a_config_of_each_method(method):
  found = settings(method)
  assert found.model.path == ("smollm2-135m-instruct" if "_" in method else "")
  with pytest.raises(ValueError, match="'ppo', expected one of sft, dpo, rl"):
    own_task.get_config("ppo")


def test_what_is_to_be_filled_in_reaches_the_configs(monkeypatch):
  for name in ("DEMONSTRATIONS", "COMPARISONS", "PROBLEMS", "MODEL"):
    monkeypatch.setattr(own_task, name, f"my_{name}")
  sft, dpo, rl = (settings(method) for method in RECORDS)
  assert sft.demonstrations.path == "my_DEMONSTRATIONS" and dpo.preferences.path == "my_COMPARISONS"
  assert rl.prompts.path == "my_PROBLEMS" and sft.model.path == dpo.model.path == rl.model.path == "my_MODEL"


def test_smollm2_dpo_is_a_config():
  assert parse(DPOSettings, smollm2_dpo.get_config("ipo")).objective.loss == "ipo"


def test_the_reward_is_loaded_from_the_template():
  (function,) = settings("rl").rewards.functions.values()
  reward = load_function(function.function, function.options)
  assert reward([" cba", "abc"], [{"answer": "cba"}] * 2) == [1.0, 0.0]
  assert own_task.reward.__code__.co_argcount == 2
  shown = re.search(r"^def reward.*?(?=^```)", PAGE, re.MULTILINE | re.DOTALL)[0]
  assert shown.splitlines()[-1].strip() in (ROOT / "configs" / "own_task.py").read_text("utf-8")


def test_the_data_of_the_page_fit_the_template(directory, monkeypatch):
  monkeypatch.chdir(directory)
  sft, dpo, rl = (settings(method) for method in RECORDS)
  tokenizer = load_policy(rl.model).tokenizer
  assert len(read_demonstrations(sft.demonstrations)[0]) == 1000
  found = load_comparisons(dpo.preferences, tokenizer)
  assert found.train and found.held_out and len(found.train) + len(found.held_out) == 200
  prompts, _ = load_prompts(rl.prompts, tokenizer, max_prompt_length=rl.rollout.max_prompt_length, where="prompts")
  assert len(prompts) == 384 and tokenizer.decode(prompts[0].tokens).startswith("<user>Reverse ")


@pytest.mark.slow  # trains three times, some minutes
def test_the_commands_of_the_page_train_a_model(directory):
  environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
  environment["PATH"] = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
  for instruction, text in BLOCKS:
    if instruction == "Run it":
      done = subprocess.run(["bash", "-ec", text], cwd=directory, env=environment, capture_output=True, text=True)
      assert done.returncode == 0, done.stderr[-3000:]
  key = "eval/heldout/avg@8"
  values = [row[key] for row in read_metrics(directory / "runs" / "own_rl") if key in row]
  assert values[-1] > values[0] + 0.05
  key = "eval/preferences/reward/accuracy"
  assert [row[key] for row in read_metrics(directory / "runs" / "own_dpo") if key in row][-1] > 0.8
  assert "problems.jsonl" in (directory / "runs" / "own_rl" / "report.html").read_text("utf-8")
