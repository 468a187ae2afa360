import json
import subprocess
import sys

import pytest

from tests import compiler_flags


def run(*arguments):
  command = [sys.executable, "-m", "experiments.benchmark", *arguments]
  return subprocess.run(command, capture_output=True, text=True, env=compiler_flags.one_device())


def test_the_last_line_is_json():
  done = run("--mode=handover", "--runs=1")
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout.splitlines()[-1])
  assert found["mode"] == "handover" and found["model"] == "smol_4layer" and found["device"] == "cpu"
  assert found["gib"] == pytest.approx(42_472_512 * 4 / 2**30, rel=0.01)
  assert found["peak_memory_gib"] > found["gib"]


def test_an_unknown_model_is_one_line():
  done = run("--model=gpt")
  assert done.returncode == 2 and done.stdout == ""
  assert done.stderr.strip().splitlines() == [
    "error: model: 'gpt', expected one of smol_4layer, smollm2_135m, llama3_2_1b, qwen2_5_0_5b, qwen2_5_1_5b, "
    "qwen2_5_7b, qwen2_5_32b"
  ]
