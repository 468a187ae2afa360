"""Every binary refuses a config with a typo, without a field or of another method in one line, before it does anything.

The binaries' `main` functions are called in this process; what they would load first is made to fail.
"""

import importlib
import re

import pytest
from ml_collections import ConfigDict

from experiments import config_entries, flags
from posttrain_jax.types import InputError

DEFAULT = re.compile(r'flags\.run\(main, default="(\w+)"')
PROGRAMS = {
  path.stem: match[1]
  for path in sorted((flags._CONFIGS.parent / "experiments").glob("*.py"))
  if (match := DEFAULT.search(path.read_text("utf-8")))
}
OTHERS = {"sft": "tiny_dapo", "collect": "tiny_sft", "ablation": "tiny_dapo", "dpo": "tiny_reward_model"}


class Accepted(Exception):
  """Raised in place of the first thing that a run would open or load."""


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch):
  def stop(*args, **kwargs):
    raise Accepted

  for place in (
    "pipelines.method_assembly.make_mesh",
    "pipelines.collect._collect_edited",
    "pipelines.collect._collect_sampled",
    "performance.compile.proof.describe",
    "studies.ablation.Workdir.open",
    "studies.forgetting.Workdir.open",
    "studies.overoptimization.Workdir.open",
  ):
    module, _, name = place.rpartition(".")
    owner, _, attribute = module.rpartition(".")
    try:
      target = importlib.import_module(f"posttrain_jax.{module}")
    except ModuleNotFoundError:
      target = getattr(importlib.import_module(f"posttrain_jax.{owner}"), attribute)
    monkeypatch.setattr(target, name, stop, raising=False)


def load(name):
  return flags._load(str(flags._CONFIGS / f"{name}.py")).unlock()


def outcome(program, config, workdir):
  """The line that the program ends with; empty if the config is accepted."""
  try:
    importlib.import_module(f"experiments.{program}").main(config.lock(), str(workdir / "run"))
  except InputError as error:
    assert not (workdir / "run").exists()
    return " ".join(str(error).split())
  except Accepted:
    return ""
  raise AssertionError(f"{program} went on")


def closed_groups(config, path=()):
  """Paths of the groups of fields whose names are fixed."""
  if not config_entries._is_open(path):
    yield path
  if not (path and path[-1].endswith("options")):
    for name, value in config.items():
      if isinstance(value, ConfigDict):
        yield from closed_groups(value, (*path, name))


def group(config, path):
  for name in path:
    config = config[name]
  return config


def test_there_are_programs():
  assert len(PROGRAMS) >= 13 and PROGRAMS["sft"] == "tiny_sft"


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_default_is_accepted(program, tmp_path):
  assert outcome(program, load(PROGRAMS[program]), tmp_path) == ""
