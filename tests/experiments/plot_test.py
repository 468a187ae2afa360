import json
import subprocess
import sys

import pytest


def plot(*args):
  return subprocess.run([sys.executable, "-m", "experiments.plot", *args], capture_output=True, text=True, check=False)


def test_draws_and_says_what_a_run_lacks(tmp_path):
  for name, key in (("a", "loss"), ("b", "entropy")):
    (tmp_path / name).mkdir()
    (tmp_path / name / "metrics.jsonl").write_text(json.dumps({"step": 0, "updates": 0, key: 1.0}) + "\n")
  runs = [f"--run={name}={tmp_path / name}" for name in ("a", "b")]
  done = plot(*runs, "--metric=loss", f"--output={tmp_path / 'c.png'}")
  assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'c.png'}\n"), done.stderr
  assert "note: b has no loss\n" in done.stderr and (tmp_path / "c.png").stat().st_size > 1000


@pytest.mark.parametrize(
  "runs, message",
  [
    (["--run=/nowhere"], "error: --run=/nowhere: expected NAME=DIR\n"),
    (["--run=a=/x", "--run=a=/y"], "error: --run=a=/y: there is a run a already, expected names that differ\n"),
  ],
)
def test_bad_runs_end_with_one_line(tmp_path, runs, message):
  done = plot(*runs, "--metric=loss", f"--output={tmp_path / 'c.png'}")
  assert (done.returncode, done.stderr) == (2, message)
