"""Tests entries of open sections that flags add and remove.

Some go through the flags of a real binary.
"""

import os
import pathlib
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from experiments import config_entries

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def config():
  one = dict(prompts=dict(path="", limit=0), samples=8)
  correct = dict(function="verifiers:exact", weight=2.0, options=dict(style="boxed"))
  return ConfigDict(
    dict(
      steps=3,
      rewards=dict(accuracy="correct", functions=dict(correct=correct)),
      eval=dict(sets=dict(heldout=one)),
      advantage_options=dict(),
      prompts=dict(chat_arguments=dict()),
      logging=dict(console=dict(loss="loss")),
      gates=dict(sft=dict(may_fall={}, may_rise=dict(perplexity=0.3))),
    )
  ).lock()


def apply(config, *arguments):
  left, notes = config_entries.apply(["program", *arguments], config)
  assert left[0] == "program" and config.is_locked
  return left[1:], notes


def test_a_function_is_added(config):
  arguments = "--config.rewards.functions.short.function=m:f", "--config.rewards.functions.short.weight=0.5"
  left, notes = apply(config, *arguments, "--config.rewards.functions.short.options.limit=7", "--config.steps=4")
  assert left == [*arguments, "--config.steps=4"] and notes == []  # absl sets the fields that exist now
  added = config.rewards.functions.short
  assert added.to_dict() == {"function": "", "weight": 1.0, "options": {"limit": 7}, "lowest": 0.0}
  assert "correct" in config.rewards.functions


@pytest.mark.parametrize("separate", [False, True])
def test_a_changed_function_loses_the_options_of_the_one_before(config, separate):
  option, value = "--config.rewards.functions.correct.function", "m.py:f"
  changed = [option, value] if separate else [f"{option}={value}"]
  left, (note,) = apply(config, *changed, "--config.rewards.functions.correct.options.limit", "-3")
  assert left == changed and config.rewards.functions.correct.options.to_dict() == {"limit": -3}
  assert "without style='boxed' of the function before" in note
  assert config.rewards.functions.correct.weight == 2.0


def test_a_bound_is_added_and_another_one_removed(config):
  left, _ = apply(config, "--config.gates.sft.may_fall.seen/facts=0.1", "--config.gates.sft.may_rise.perplexity=None")
  assert left == [] and config.gates.sft.to_dict() == dict(may_fall={"seen/facts": 0.1}, may_rise={})


def test_the_same_function_keeps_its_options(config):
  left, notes = apply(config, "--config.rewards.functions.correct.function=verifiers:exact")
  assert len(left) == 1 and notes == []
  assert config.rewards.functions.correct.options.style == "boxed"


def test_a_set_is_added_as_a_copy_even_if_the_first_one_goes(config):
  left, _ = apply(config, "--config.eval.sets.heldout=None", "--config.eval.sets.mine.prompts.path=x.jsonl")
  assert left == ["--config.eval.sets.mine.prompts.path=x.jsonl"]
  assert config.eval.sets.to_dict() == {"mine": {"prompts": {"path": "", "limit": 0}, "samples": 8}}


def test_entries_and_all_entries_are_removed(config):
  arguments = "--config.rewards.functions.correct.options.style=None", "--config.logging.console.loss=None"
  assert apply(config, *arguments, "--config.eval.sets={}") == ([], [])
  assert not config.rewards.functions.correct.options and not config.logging.console and not config.eval.sets


def test_new_options_have_the_type_that_they_look_like(config):
  values = {"a": "1", "b": "1.5", "c": "true", "d": "(1, 2)", "e": "boxed", "f": "'None'", "g": "False", "h": "1e-3"}
  assert apply(config, *(f"--config.advantage_options.{name}={text}" for name, text in values.items()))[0] == []
  expected = {"a": 1, "b": 1.5, "c": True, "d": (1, 2), "e": "boxed", "f": "None", "g": False, "h": 1e-3}
  assert config.advantage_options.to_dict() == expected
  apply(config, "--config.logging.console.eval/heldout/avg@8=held out")
  assert config.logging.console["eval/heldout/avg@8"] == "held out"


@pytest.mark.parametrize(
  "argument",
  [
    "--config.stpes=3",  # no open section
    "--config.steps=None",
    "--config.rewards={}",
    "--config.rewards.functions.corect.weight=3",  # a new function is added by its `function` only
    "--config.eval.sets.hedlout.samples=3",
    "--config.none.options.x=3",
    "--config.eval.sets.heldout.prompts.path",
    "--workdir=None",
  ],
)
def test_all_else_is_left_to_the_parser(config, argument):
  before = config.to_dict()
  assert apply(config, argument) == ([argument], []) and config.to_dict() == before


def test_what_cannot_be_done_is_one_line(config):
  with pytest.raises(config_entries.EntryError, match=r"functions\.corect=None: .* expected one of: correct"):
    apply(config, "--config.rewards.functions.corect=None")
  apply(config, "--config.eval.sets={}")
  with pytest.raises(config_entries.EntryError, match=r"eval\.sets\.mine: the config has no evaluation set"):
    apply(config, "--config.eval.sets.mine.prompts.path=x")
  assert apply(config, "--", "--config.eval.sets={}")[0] == ["--", "--config.eval.sets={}"]


BINARY = """
import runpy, sys, types
grpo = sys.modules["posttrain_jax.pipelines.grpo"] = types.ModuleType("grpo")  # everything else is the binary's own
grpo.train = lambda config, workdir: print(config.rewards.functions.to_dict(), list(config.eval.sets), sys.path[-2:])
sys.argv = ["dapo", *sys.argv[1:]]
runpy.run_module("experiments.dapo", run_name="__main__")
"""


def test_the_flags_of_a_binary(tmp_path):
  (tmp_path / "configs").mkdir()
  (tmp_path / "configs" / "mine.py").write_text("from helper import get_config")
  (tmp_path / "configs" / "helper.py").write_text("from configs.tiny_dapo import get_config as get_config")

  def call(*arguments):
    command = [sys.executable, "-P", "-c", BINARY, "--workdir=w", f"--config={tmp_path}/configs/mine.py", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

  functions = "--config.rewards.functions"
  child = call(f"{functions}.correct.function=my:f", f"{functions}.b.function=r.py:g", f"{functions}.b.options.limit=7")
  expected = {
    "b": {"function": "r.py:g", "lowest": 0.0, "options": {"limit": 7}, "weight": 1.0},
    "correct": {"function": "my:f", "lowest": 0.0, "options": {}, "weight": 2.0},
  }
  assert child.returncode == 0, child.stderr
  assert child.stdout == f"{expected} ['heldout'] {[str(tmp_path), f'{tmp_path}/configs']}\n"
  assert child.stderr.startswith(f"note: {functions}.correct.function: without style='answer_line'")

  child = call(f"{functions}.b.weight=7")
  assert child.returncode == 2 and child.stderr.endswith(
    f"the closest is rewards.functions.correct.weight; a new one needs {functions}.b.function=MODULE:FUNCTION\n"
  )
  child = call(f"{functions}.b=None")
  assert (child.returncode, child.stderr.count("\n")) == (2, 1)
  assert config_entries.RULES in call("--help").stdout


def test_a_variable_of_the_chat_template_is_added(config):
  left, notes = apply(config, "--config.prompts.chat_arguments.enable_thinking=False")
  assert left == [] and notes == [] and config.prompts.chat_arguments.to_dict() == {"enable_thinking": False}
