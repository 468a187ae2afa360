"""Tests that the command writes a directory that evaluates like the run."""

import json
import subprocess
import sys

import pytest

from posttrain_jax.assembly.convert import convert
from posttrain_jax.assembly.model import open_policy
from posttrain_jax.data import demonstrations
from posttrain_jax.data.vocabularies import tiny_tokenizer
from posttrain_jax.evaluation.evaluate import evaluate
from posttrain_jax.evaluation.public_benchmarks import BENCHMARKS
from posttrain_jax.models.config import TransformerConfig
from tests.assembly.convert_test import write_run
from tests.random_params import random_params

TOKENIZER = tiny_tokenizer(demonstrations.SYMBOLS)
MODEL = TransformerConfig(TOKENIZER.vocab_size, 1, 16, 16, 2, 1, 8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("runs") / "run"
  workdir.mkdir()
  write_run(workdir, MODEL, random_params(MODEL), tokenizer=TOKENIZER)
  return workdir


def command(*arguments):
  arguments = [sys.executable, "-m", "experiments.convert", *arguments]
  return subprocess.run(arguments, capture_output=True, text=True, check=False)


def test_the_last_line_has_the_files_and_the_parameters(run, tmp_path):
  output = tmp_path / "output"
  done = command(f"--model={run}", f"--output={output}", "--dtype=bfloat16", "--shard_gib=1e-6")
  assert done.returncode == 0, done.stderr
  last = json.loads(done.stdout.splitlines()[-1])
  assert last == {"files": sorted(path.name for path in output.iterdir()), "parameters": MODEL.num_params}
  assert "model.safetensors.index.json" in last["files"] and len(last["files"]) > 7


@pytest.mark.slow  # tests/assembly/convert_test.py shows that model, parameters and tokeniser are the same
def test_what_was_written_evaluates_like_the_run(run, tmp_path):
  convert(str(run), tmp_path / "output")
  first, second = (
    evaluate(open_policy(str(path)), BENCHMARKS["chains"], limit=3, slots=8) for path in (run, tmp_path / "output")
  )
  assert first[0] == second[0] and first[0]["problems"] == 3
  answers = [[answer.tokens.tolist() for group in groups for answer in group.answers] for _, groups in (first, second)]
  assert answers[0] == answers[1] and len({tuple(tokens) for tokens in answers[0]}) > 1
