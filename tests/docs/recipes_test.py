"""Follows docs/recipes.md in an empty directory."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from experiments import arguments
from posttrain_jax.recipes import runners
from posttrain_jax.recipes.load import load_recipe
from posttrain_jax.recipes.recipe import Runner, check_stages
from posttrain_jax.recipes.run import estimate

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "recipes.md").read_text("utf-8")
NAME, SOURCE = re.search(r"^Write `([^`]+)`:\n\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL).groups()
COMMAND = re.search(r"^Run it:\n\n```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1]


@pytest.fixture
def recipe(tmp_path):
  file = tmp_path / NAME
  file.write_text(SOURCE)
  config, names = arguments.load(str(file), "recipe")
  return load_recipe(str(file), names, config)


def test_the_recipe_of_the_page_is_one(recipe, tmp_path):
  check_stages(recipe.stages)
  efforts = estimate(recipe, tmp_path)
  assert efforts["first"].trained > 0 and efforts["answers"].generated > 0


def test_the_function_of_the_page_keeps_the_shortest_right_answer(recipe, tmp_path):
  (tmp_path / "candidates").mkdir()
  row = {"prompt": "1+2=", "answers": ["=3", "3", "", "4"], "scores": [1.0, 1.0, None, 0.0]}
  (tmp_path / "candidates" / "000000.jsonl").write_text(json.dumps(row) + "\n")
  short = recipe.stages[2]
  config = short.config.copy_and_resolve_references()
  config.candidates = str(tmp_path / "candidates")
  assert short.run.run(config, tmp_path) == {"rows": 1}
  assert json.loads((tmp_path / "short.jsonl").read_text()) == {"prompt": "1+2=", "completion": "3"}


def test_the_page_names_all_kinds_of_stages():
  kinds = {name for name, value in vars(runners).items() if isinstance(value, Runner)}
  table = PAGE[PAGE.index("| kind |") : PAGE.index("With one model")]
  assert kinds and {name for name in kinds if f"`{name}`" not in table} == set()


@pytest.mark.slow  # trains twice, some minutes
def test_the_command_of_the_page_runs(tmp_path):
  (tmp_path / NAME).write_text(SOURCE)
  environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
  environment["PATH"] = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
  done = subprocess.run(["bash", "-ec", COMMAND], cwd=tmp_path, env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr[-3000:]
  result = json.loads(done.stdout.splitlines()[-1])
  stages = {each["name"]: each["metrics"] for each in result["stages"]}
  measure = "eval/heldout/avg@8"
  assert stages["second_measures"][measure] > stages["first_measures"][measure]
  assert (tmp_path / "runs" / "short" / "report.html").exists() and pathlib.Path(result["report"]).exists()
