import importlib
import json
import os
import pathlib
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from configs.recipes.costs import costs
from posttrain_jax.recipes import paper
from posttrain_jax.types import InputError
from tests.recipes.made_recipe import chain

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAIN = importlib.import_module("experiments.recipe").main
RECIPE = """
from ml_collections import ConfigDict
from configs.recipes.costs import costs
from posttrain_jax.recipes.recipe import Stage
from posttrain_jax.recipes.runners import function

def get_config(arg=""):
  return ConfigDict(dict(costs=costs(), topology="", base="", write=dict(text=arg, path="")))

def write(config, folder):
  (folder / "text").write_text(config.text)

def get_stages(config):
  return [Stage("write", run=function(write, "text"), config=config.write, inputs={"path": config.base})]
"""


def config(topology=""):
  return ConfigDict({"costs": costs(), "topology": topology})


def test_a_recipe_runs_and_its_last_line_is_json(tmp_path, capsys):
  MAIN(config(), str(tmp_path / "run"), "made.py:tiny", {"get_stages": lambda config: chain("a", "b")})
  result = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert result["recipe"] == "made:tiny" and [each["name"] for each in result["stages"]] == ["a", "b"]
  assert pathlib.Path(result["report"]).exists()


def test_a_topology_is_compiled_and_not_run(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(paper, "prove_stages", lambda stages, topology, say: {stage.name: topology for stage in stages})
  MAIN(config("v5p"), str(tmp_path / "run"), "made.py", {"get_stages": lambda config: chain("a")})
  result = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert result == {"recipe": "made", "topology": "v5p", "stages": {"a": "v5p"}}
  assert not (tmp_path / "run").exists()


def test_a_run_needs_a_workdir():
  with pytest.raises(InputError, match="--workdir: missing"):
    MAIN(config(), None, "made.py", {"get_stages": lambda config: chain("a")})


def test_the_flags_of_a_recipe(tmp_path):
  file = tmp_path / "made.py"
  file.write_text(RECIPE)
  environment = {**os.environ, "PYTHONPATH": str(ROOT)}

  def call(*arguments):
    command = [sys.executable, "-m", "experiments.recipe", *arguments, f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    return done.returncode, done.stderr

  assert call(f"--recipe={file}:tiny") == (2, "error: stage write: path is empty, expected a path or a name\n")
  assert not (tmp_path / "run").exists()
  assert call(f"--recipe={file}:tiny", f"--config.base={file}", "--config.write.text=new") == (0, "")
  assert (tmp_path / "run" / "write" / "text").read_text() == "new"


GATED = """
import json
from ml_collections import ConfigDict
from configs.recipes.costs import costs
from posttrain_jax.recipes import gate
from posttrain_jax.recipes.recipe import Stage
from posttrain_jax.recipes.runners import GATE, function

def get_config(arg=""):
  gates, facts = dict(sft=dict(may_fall={}, may_rise={})), dict(before=dict(facts=0.9), after=dict(facts=0.6))
  return ConfigDict(dict(costs=costs(), topology="", gates=gates, **facts))

def measure(config, folder):
  row = dict(step=0) | {name + end: value for name, value in config.items() for end in ("", "_low", "_high")}
  (folder / "metrics.jsonl").write_text(json.dumps(row) + "\\n")

def get_stages(config):
  models = [Stage(name, run=function(measure, "metrics.jsonl"), config=config[name]) for name in ("before", "after")]
  files = {f"{each.name}.metrics": each.file("metrics.jsonl") for each in models}
  return [*models, Stage("sft_gate", run=GATE, config=gate.gate("sft", config.gates.sft.to_dict()), inputs=files)]
"""


def test_a_stage_that_loses_too_much_ends_the_command_with_1_until_it_is_accepted(tmp_path):
  file = tmp_path / "gated.py"
  file.write_text(GATED)
  environment = {**os.environ, "PYTHONPATH": str(ROOT)}

  def call(*arguments):
    bound = "--config.gates.sft.may_fall.facts=0.1"
    command = [sys.executable, "-m", "experiments.recipe", f"--recipe={file}", f"--workdir={tmp_path / 'run'}", bound]
    done = subprocess.run([*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True)
    return done.returncode, done.stderr

  sentence = "facts gets worse by 0.300 [0.300, 0.300], from 0.900 to 0.600; its bound is 0.1"
  assert call() == (1, f"error: sft loses too much: {sentence}; --accept=sft goes on\n")
  assert call("--accept=sft") == (0, "")
