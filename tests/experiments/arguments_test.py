"""Tests how the command line and the config file are read, and what is said about mistakes in them."""

from pathlib import Path

import pytest

from experiments import arguments
from tests.experiments.small_program import assert_refused

ROOT = Path(__file__).resolve().parents[2]


def test_default_config_from_any_directory_without_importing_jax(call):
  child = call("--workdir=w")
  assert (child.returncode, child.stdout, child.stderr) == (0, "w 3 True None (1, 2) True False\n", "")
  assert arguments.CONFIGS == ROOT / "configs"


def test_overrides(call):
  config = f"--config={call.directory}/configs/tiny.py:print"
  child = call(
    config, "--config.steps", "7", "--noconfig.on", "--config.limit=4", "--config.model.layers=(3,)", "--workdir=w"
  )
  assert child.stdout == "w 7 False 4 (3,) True False\n"


def test_arguments_that_are_not_the_process_own(call):
  assert call("--config.steps=abc", program="explicit.py").stdout == "w 8 True None (1, 2) True False\n"


@pytest.mark.parametrize(
  "argument, message",
  [
    ("--config.stpes=3", "--config.stpes: there is no such config field, the closest is steps"),
    ("--config.width=3", "--config.width: there is no such config field, the closest is model.width"),
    (
      "--config.optimiser.learning_rate=3",
      "--config.optimiser.learning_rate: there is no such config field, the closest is optimizer.learning_rate",
    ),
    ("--config.steps.x=3", "--config.steps.x: there is no such config field, the closest is steps"),
    (
      "--config.model={'width': 3}",
      "--config.model: is a group of fields, expected one of them, --config.model.NAME=value",
    ),
    ("--config.steps=abc", "--config.steps: found 'abc', expected int"),
    ("--config.steps=1.5", "--config.steps: found '1.5', expected int"),
    ("--config.limit=x", "--config.limit: found 'x', expected int"),
    ("--config.optimizer.learning_rate=x", "--config.optimizer.learning_rate: found 'x', expected float"),
    ("--config.on=perhaps", "--config.on: found 'perhaps', expected bool"),
    ("--config.model.layers=('a', 'b')", "--config.model.layers=('a', 'b'): found 'a', expected int"),
    (
      "--config.model.layers[0]=3",
      "--config.model.layers[0]: found an index, expected --config.model.layers=value with the whole value",
    ),
    (
      "--config.untyped=3",
      "--config.untyped: is None in the config file and has no type, expected a placeholder there",
    ),
    ("--config=/none/there.py", "--config=/none/there.py: there is no file /none/there.py"),
    ("--config=/usr", "--config=/usr: /usr is a directory, expected a file FILE.py"),
    ("rest", "found the argument 'rest', expected only options, --name=value"),
    ("--workdri=x", "Unknown command line flag 'workdri'. Did you mean: workdir ?"),
    ("--workdir=", "--workdir: missing, expected a directory for the run's files"),
  ],
)
def test_a_bad_command_line_is_one_line_and_exit_2(call, argument, message):
  assert_refused(call("--workdir=w", argument), message)


def test_a_missing_workdir(call):
  assert_refused(call(), "--workdir: missing, expected a directory for the run's files")


@pytest.mark.parametrize(
  "text, message",
  [
    (
      "def helper():\n  return missing\n\ndef get_config():\n  return helper()\n",
      ":2: NameError: name 'missing' is not defined",
    ),
    ("def get_config(:\n", ":1: SyntaxError: invalid syntax (broken.py, line 1)"),
    ("def get_config():\n  raise ValueError('several\\nlines')\n", ":2: ValueError: several lines"),
    ("x = 1\n", ": found no function get_config, expected one that returns ml_collections.ConfigDict"),
    ("import json\n\ndef get_config():\n  return json.loads('{')\n", ":4: JSONDecodeError: Expecting"),
    ("def get_config(name):\n  pass\n", ":1: TypeError: get_config() missing 1 required positional argument: 'name'"),
    ("def get_config():\n  return {}\n", ": get_config returned dict, expected ml_collections.ConfigDict"),
  ],
)
def test_a_config_file_that_raises_is_named_with_its_line(call, text, message):
  path = call.directory / "broken.py"
  path.write_text(text)
  child = call("--workdir=w", f"--config={path}")
  assert (child.returncode, child.stderr.count("\n")) == (2, 1)
  assert child.stderr.startswith(f"error: {path}{message}")


@pytest.mark.parametrize("flag", ["--workdir=gs://bucket/run", "--config=s3://bucket/c.py"])
def test_a_bucket_is_refused_before_anything_is_imported(call, flag):
  child = call("--workdir=w", flag)
  assert child.returncode == 2 and child.stderr.count("\n") == 1
  assert child.stderr.startswith(f"error: {flag}: only paths of this machine's file system work today")


def test_the_home_directory_is_expanded(call):
  home = {"HOME": str(call.directory)}
  child = call("--workdir=~/w", "--config=~/configs/tiny.py:word", environment=home)
  assert child.returncode == 0, child.stderr
  assert child.stdout.startswith(f"{call.directory}/w 3 ")
