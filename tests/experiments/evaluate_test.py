"""Tests that the command judges by a reward function of one's own, and stores every answer."""

import json
import subprocess
import sys

import pytest

from posttrain_jax.data import demonstrations
from posttrain_jax.data.tokenizer import tiny_tokenizer
from posttrain_jax.models.config import TransformerConfig
from tests.assembly.convert_test import write_run
from tests.random_params import random_params

TOKENIZER = tiny_tokenizer(demonstrations.SYMBOLS)
MODEL = TransformerConfig(TOKENIZER.vocab_size, 1, 16, 16, 2, 1, 8)


@pytest.mark.slow  # tests/evaluation/evaluate_test.py has its parts
def test_answers_are_stored_with_the_rewards_of_ones_own_function(tmp_path):
  workdir, stored, rewards = tmp_path / "run", tmp_path / "answers.jsonl", tmp_path / "rewards.py"
  workdir.mkdir()
  write_run(workdir, MODEL, random_params(MODEL), tokenizer=TOKENIZER)
  rewards.write_text("def length(texts, rows, scale):\n  return [scale * len(text) for text in texts]\n")
  command = [
    *(sys.executable, "-m", "experiments.evaluate", f"--model={workdir}", "--task=chains", "--limit=3", "--samples=2"),
    *(f"--reward={rewards}:length", '--reward_options={"scale": 0.125}', f"--answers={stored}", "--max_new_tokens=6"),
  ]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  lines = [json.loads(line) for line in stored.read_text("utf-8").splitlines()]
  assert len(lines) == 3 * 2
  assert [line["reward"] for line in lines] == [len(line["answer"]) / 8 for line in lines]
  last = json.loads(done.stdout.splitlines()[-1])
  assert last["problems"] == 3 and abs(last["reward"] - sum(line["reward"] for line in lines) / 6) < 1e-6
