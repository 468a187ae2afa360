import json
import subprocess
import sys

import pytest


def run(*arguments):
  command = [sys.executable, "-m", "experiments.prepare", *map(str, arguments)]
  return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.fixture
def raw(tmp_path):
  rows = [{"text": f"the end of story {i} with words to read. " * 5} for i in range(4)]
  (tmp_path / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
  return tmp_path / "raw.jsonl"


def test_a_command_that_says_what_it_made(raw, tmp_path):
  done = run(f"--config.input.paths={raw}", "--config.rules=()", "--config.workers=2", f"--workdir={tmp_path / 'run'}")
  assert done.returncode == 0, done.stderr
  told = json.loads(done.stdout.splitlines()[-1])
  assert (told["documents"], told["kept"] + told["dropped_near"], told["shards"]) == (4, 4, 1)


def test_bad_input_is_one_line_and_exit_code_2(raw, tmp_path):
  raw.write_text(raw.read_text("utf-8").replace('{"text"', '{"body"'), "utf-8")
  done = run(f"--config.input.paths={raw}", f"--workdir={tmp_path / 'run'}")
  assert done.returncode == 2 and not (tmp_path / "run").exists()
  assert done.stderr == (f"error: {raw}:1: found the fields body, expected text in the field 'text'\n")
