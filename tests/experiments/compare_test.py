import json
import subprocess
import sys

import pytest

from tests.recipes.saved_model import save_model


def compare(*flags):
  command = [sys.executable, "-m", "experiments.compare", *flags]
  return subprocess.run(command, capture_output=True, text=True, check=False)


LABEL = {"prompt": "q", "chosen": "a b", "rejected": "c", "chosen_from": "x", "rejected_from": "y"}


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (
      ("--models=a,b", "--judge=c"),
      "--prompts: missing, expected it with --models, --prompts and --judge; or --labels alone",
    ),
    (("--labels=l.jsonl", "--judge=c"), "--judge: --labels does not use it, expected one of the two"),
    (("--labels=no_such.jsonl",), "no_such.jsonl"),
  ],
)
def test_bad_flags_end_with_one_line(flags, message):
  done = compare(*flags)
  assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
  assert done.stderr.startswith(f"error: {message}")


def test_labels_end_with_a_table_and_one_json_line(tmp_path):
  (tmp_path / "l.jsonl").write_text("".join(json.dumps({**LABEL, "prompt": f"q{n}"}) + "\n" for n in range(4)))
  done = compare(f"--labels={tmp_path}/l.jsonl")
  assert (done.returncode, done.stderr) == (0, "")
  assert "x over y" in done.stdout and "Bradley-Terry" in done.stdout
  line = json.loads(done.stdout.splitlines()[-1])
  assert (line["labels"], line["prompts"], line["pairs"]["x_over_y"]["win_rate"]["mean"]) == (4, 4, 1.0)


@pytest.mark.slow  # the parts are tested in tests/evaluation
def test_models_are_compared_by_a_reward_model(tmp_path):
  save_model(tmp_path / "a", 0)
  save_model(tmp_path / "b", 1)
  save_model(tmp_path / "judge", 2, scalar_head=True)
  (tmp_path / "p.jsonl").write_text("".join(json.dumps({"prompt": f"{n}+1="}) + "\n" for n in range(8)))
  options = (f"--models={tmp_path}/a,other={tmp_path}/b", f"--prompts={tmp_path}/p.jsonl", "--max_new_tokens=8")
  done = compare(*options, f"--judge={tmp_path}/judge", "--samples=2")
  assert done.returncode == 0, done.stderr
  line = json.loads(done.stdout.splitlines()[-1])
  assert (line["prompts"], line["samples"], list(line["pairs"])) == (8, 2, ["a_over_other"])
  refused = compare(*options, f"--judge={tmp_path}/a", "--judge_question=no_such.txt")
  assert refused.returncode == 2 and refused.stderr.startswith("error: --judge_question=no_such.txt: cannot be read")
