"""Tests that every binary refuses a wrong config in one line.

The config has a typo, lacks a field or is another method's. Nothing is done before.

The binaries' `main` functions are called in this process; what they would load first is made to fail.
"""

import importlib
import re

import pytest
from ml_collections import ConfigDict

from experiments import arguments, config_entries
from posttrain_jax.assembly import model
from posttrain_jax.performance.compile import proof
from posttrain_jax.pipelines import collect, generative_reward, method_assembly, prepare
from posttrain_jax.recipes import forecasts
from posttrain_jax.studies import ablation, pretraining_widths
from posttrain_jax.types import InputError

DEFAULT = re.compile(r'flags\.run\(main, default="(\w+)"')
PROGRAMS = {
  path.stem: match[1]
  for path in sorted((arguments.CONFIGS.parent / "experiments").glob("*.py"))
  if (match := DEFAULT.search(path.read_text("utf-8")))
}
ROWS = ("best_of_8_sft",)


class Accepted(Exception):
  """Stands in for the first thing that a run would open or load."""


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch):
  def stop(*args, **kwargs):
    raise Accepted

  monkeypatch.setattr(method_assembly, "make_mesh", stop)
  monkeypatch.setattr(collect, "_edited_rows", stop)
  monkeypatch.setattr(model, "read_config", stop)
  monkeypatch.setattr(generative_reward, "read_judgements", stop)
  monkeypatch.setattr(proof.topology, "devices", stop)
  monkeypatch.setattr(ablation.Workdir, "open", stop)
  monkeypatch.setattr(prepare.inputs, "find_files", stop)
  monkeypatch.setattr(forecasts, "read_shards", stop)
  monkeypatch.setattr(pretraining_widths, "read_shards", stop)


@pytest.fixture(scope="module")
def default():
  configs = {}

  def load(program, name=None):
    if (program, name) not in configs:
      configs[program, name] = arguments.load(str(arguments.CONFIGS / f"{name or PROGRAMS[program]}.py"))[0].unlock()
      # The fields that have no default.
      if (name or PROGRAMS[program]) == "prepare":
        configs[program, name].input.paths = ("raw.jsonl",)
      if (name or PROGRAMS[program]) == "pretraining_widths":
        configs[program, name].run.corpus.path = "prepared"
      if (name or PROGRAMS[program]) == "pretrain":
        configs[program, name].corpus.path = "prepared"
      if (name or PROGRAMS[program]) in ("red_team", "bias_probes"):
        configs[program, name].model.path = "model"
    return configs[program, name]

  return load


def outcome(program, config, workdir):
  """Returns the line that the program ends with.

  It is empty if the config is accepted.
  """
  try:
    importlib.import_module(f"experiments.{program}").main(config, str(workdir / "run"))
  except InputError as error:
    assert not (workdir / "run").exists() and "\n" not in str(error)
    return str(error)
  except Accepted:
    return ""
  raise AssertionError(f"{program} went on")


def groups(config, path=()):
  """Yields (path, group) of the groups of fields whose names are fixed and that are checked before anything is read."""
  if not config_entries._is_open(path) and path not in (("tasks",), ("rows",), ("groups",), ("contrasts",)):
    yield path, config
  for name, value in config.items():
    # A mesh's axes and a function's options are checked by whom they are for. Base and rows are one config each.
    if isinstance(value, ConfigDict) and name not in ("mesh", "meshes", "tokens") and not name.endswith("options"):
      yield from groups(value, (*path, name))


def test_the_programs_are_found():
  assert len(PROGRAMS) >= 13 and PROGRAMS["sft"] == "tiny_sft"


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_typo_is_refused_wherever_it_is(program, default, tmp_path):
  config = default(program)
  assert outcome(program, config, tmp_path) == ""
  for path, group in list(groups(config)):
    if (path[:1] == ("tasks",) and len(path) > 2) or (path[:1] == ("rows",) and (path[1] not in ROWS or len(path) > 3)):
      continue  # a few of the ablation's hundreds
    group["stepz"] = 5
    line = outcome(program, config, tmp_path)
    del group["stepz"]
    # A change of an ablation's row is in the configs of its runs, which are named by their fields there.
    assert (".".join([*path, "stepz"]) if path[:1] != ("rows",) else "stepz") in line, path
  assert outcome(program, config, tmp_path) == ""


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_missing_field_is_named(program, default, tmp_path):
  config = default(program)
  named = 0
  nested = next(
    group for path, group in groups(config) if len(path) == 1 and path[0] in ("model", "base", "edited", "input", "run")
  )
  for group in (config, nested):
    for name in list(group)[:: 1 if group is config else 5]:
      value = group[name]
      del group[name]
      line = outcome(program, config, tmp_path)
      group[name] = value
      named += name in line  # some have a default, and some tell the method that the config is for
  assert outcome(program, config, tmp_path) == "" and named > len(config) // 2


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", ["tiny_sft", "tiny_dapo", "tiny_ppo", "dapo_ablation", "tiny_edited"])
def test_a_config_of_another_method_is_refused(program, name, default, tmp_path):
  same = {"tiny_dapo": {"dapo", "grpo", "quickstart", "compile"}, "tiny_ppo": {"ppo", "compile"}}
  same |= {"tiny_sft": {"sft", "compile"}, "dapo_ablation": {"ablation"}, "tiny_edited": {"collect"}}
  line = outcome(program, default(program, name), tmp_path)
  assert bool(line) == (program not in same[name]), line
