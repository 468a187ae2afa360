"""Tests that the command judges by a reward function of one's own, and stores every answer."""

import json
import subprocess
import sys

import pytest

from posttrain_jax.data import demonstrations
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.models.config import TransformerConfig
from tests.assembly.convert_test import write_run
from tests.random_params import random_params

TOKENIZER = tiny_tokenizer(demonstrations.SYMBOLS)
MODEL = TransformerConfig(TOKENIZER.vocab_size, 1, 16, 16, 2, 1, 8)


def evaluate(*flags):
  command = [sys.executable, "-m", "experiments.evaluate", *flags]
  return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (
      ("--task=alignment", "--temperature=0.5"),
      "--temperature: --task=alignment does not use it, expected it left out",
    ),
    (("--task=alignment", "--path=a.jsonl"), "--path: --task=alignment does not use it, expected it left out"),
    (("--task=gsm8k", "--reference=m"), "--reference: --task=gsm8k does not use it, expected it left out"),
    (("--task=gsm8k", "--judge=m"), "--judge: --task=gsm8k does not use it, expected it left out"),
    (("--task=alignment", "--picture=no_such/a.png"), "--picture"),
  ],
)
def test_bad_flags_end_with_one_line(flags, message):
  done = evaluate("--model=no_such_model", *flags)
  assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
  assert done.stderr.startswith(f"error: {message}")


@pytest.mark.slow
def test_a_model_that_does_not_fit_ends_with_one_line(tmp_path):
  missing = evaluate("--model=no_such_model", "--task=alignment")
  assert missing.returncode == 2 and missing.stderr.startswith("error: no_such_model")
  workdir = tmp_path / "run"
  workdir.mkdir()
  write_run(workdir, MODEL, random_params(MODEL), tokenizer=TOKENIZER)
  done = evaluate(f"--model={workdir}", "--task=alignment")  # its tokens are those of sums
  assert (done.returncode, done.stderr.count("\n")) == (2, 1) and done.stderr.startswith("error: "), done.stderr


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
