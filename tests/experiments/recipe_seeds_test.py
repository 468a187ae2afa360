import subprocess
import sys

from tests.recipes.seeds_test import run


def recipe_seeds(*args):
  command = [sys.executable, "-m", "experiments.recipe_seeds", *args]
  return subprocess.run(command, capture_output=True, text=True, check=False)


def test_prints_a_table_of_each_kind(tmp_path):
  runs = [f"--run={run(tmp_path / name, value, 0.3)}" for name, value in (("a", 0.4), ("b", 0.6))]
  done = recipe_seeds(*runs, "--measure=seen/*")
  assert done.returncode == 0, done.stderr
  assert "| `seen/facts` | 0.50 [0.30, 0.70] |" in done.stdout
  assert "gains\n\n| measure | sft |" in done.stdout and "**+0.30 [+0.20, +0.40]**" in done.stdout


def test_a_folder_without_a_recipe_ends_with_one_line(tmp_path):
  done = recipe_seeds(f"--run={tmp_path}")
  message = f"error: {tmp_path}: found no measures of finished stages, expected the workdir of a recipe\n"
  assert (done.returncode, done.stderr) == (2, message)
