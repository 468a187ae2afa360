import subprocess
import sys

import pytest


def generate(*flags):
  command = [sys.executable, "-m", "experiments.generate", *flags]
  return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
  "flags, message",
  [
    (("--model=m",), "error: --prompt, --prompts: expected one of the two\n"),
    (("--model=m", "--prompt=a", "--prompts=b"), "error: --prompt, --prompts: expected one of the two\n"),
    (("--model=m", "--prompt=a", "--samples=0"), "error: flag --samples=0: 0 is not a positive integer\n"),
    (("--model=m", "--prompt=a", "--top_p=0"), "error: flag --top_p=0.0: expected a number in (0, 1]\n"),
  ],
)
def test_bad_flags_end_with_one_line(flags, message):
  done = generate(*flags)
  assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


@pytest.mark.slow
def test_a_run_answers_on_stdout(tmp_path):
  options = (
    "--config.steps=2",
    "--config.epochs=0",
    "--config.eval.every=0",
    "--config.demonstrations.per_difficulty=5",
  )
  trained = subprocess.run(
    [sys.executable, "-m", "experiments.sft", *options, f"--workdir={tmp_path}"], capture_output=True, text=True
  )
  assert trained.returncode == 0, trained.stderr
  assert f"experiments.generate --model={tmp_path} --prompt=TEXT" in trained.stderr
  done = generate(f"--model={tmp_path}", "--prompt=1+2=", "--max_new_tokens=4")
  assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
  refused = generate(f"--model={tmp_path}", "--prompt=1+2=", "--system=Hi")
  assert refused.stderr == f"error: --system: {tmp_path} is asked by the text alone, expected --chat as well\n"
