import os
import pathlib
import subprocess
import sys

import pytest

from experiments import flags

ROOT = pathlib.Path(__file__).resolve().parents[2]

CONFIG = """
import ml_collections
from ml_collections import config_dict

def get_config(arg=None):
  return ml_collections.ConfigDict({
    "seed": 0, "steps": 3, "action": arg or "print", "on": True, "limit": config_dict.placeholder(int), "untyped": None,
    "model": {"width": 64, "layers": (1, 2)}, "optimizer": {"learning_rate": 1e-3},
  })
"""

PROGRAM = '''
"""What the program does."""
import pathlib, sys
import numpy as np
from experiments import flags

def main(config, workdir):
  if config.action == "input":
    from posttrain_jax.types import InputError
    raise InputError("prompts.jsonl:3: found\\n'x', expected JSON")
  if config.action == "preempted":
    from posttrain_jax.runs.preemption import Preempted
    raise Preempted("checkpoint of step 7 is finished")
  if config.action == "full":
    raise OSError(28, "No space left on device", "/run/report.html")
  if config.action == "rewards":
    from posttrain_jax.rewards.failures import FailureLimit
    reasons = {0: "OSError: No space left\\non device (mine.py:7)"}
    FailureLimit(1.0).add("mine", np.ones(1, bool), [{"prompt": "2+2"}], reasons, 1)
  if config.action == "interrupted":
    raise KeyboardInterrupt
  if config.action == "bug":
    raise ValueError("a bug")
  print(workdir, config.steps, config.on, config.limit, config.model.layers, config.is_locked, "jax" in sys.modules)

if __name__ == "__main__":
  flags._CONFIGS = pathlib.Path(__file__).parent / "configs"
  flags.run(main, default="tiny")
'''

PLAIN = '''
"""Scores rows."""
from absl import flags as absl_flags
from experiments import flags

LIMIT = absl_flags.DEFINE_integer("limit", 5, "how many rows")

if __name__ == "__main__":
  flags.run_plain(lambda: print(LIMIT.value))
'''


@pytest.fixture
def call(tmp_path):
  (tmp_path / "configs").mkdir()
  (tmp_path / "configs" / "tiny.py").write_text(CONFIG)
  (tmp_path / "program.py").write_text(PROGRAM)
  explicit = 'default="tiny", argv=["program", "--workdir=w", "--config.steps=8"])'
  (tmp_path / "explicit.py").write_text(PROGRAM.replace('default="tiny")', explicit))
  (tmp_path / "plain.py").write_text(PLAIN)

  def run(*arguments, program="program.py", environment=None):
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {})
    environment = {name: value for name, value in environment.items() if value is not None}
    command = [sys.executable, tmp_path / program, *arguments]
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True)

  run.directory = tmp_path
  return run


def assert_refused(child, message):
  assert child.returncode == 2, child.stderr
  assert child.stderr == f"error: {message}\n"
  assert child.stdout == ""


def test_default_config_from_any_directory_without_importing_jax(call):
  child = call("--workdir=w")
  assert (child.returncode, child.stdout, child.stderr) == (0, "w 3 True None (1, 2) True False\n", "")
  assert flags._CONFIGS == ROOT / "configs"


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


def test_input_error_from_the_program(call):
  assert_refused(call("--workdir=w", "--config.action=input"), "prompts.jsonl:3: found 'x', expected JSON")


def test_preempted(call):
  child = call("--workdir=w", "--config.action=preempted")
  assert (child.returncode, child.stderr) == (
    75,
    "preempted: checkpoint of step 7 is finished; run the same command again to go on\n",
  )


def test_a_full_disk_and_ctrl_c_are_one_line(call):
  child = call("--workdir=w", "--config.action=full")
  assert (child.returncode, child.stderr) == (1, "error: /run/report.html: No space left on device\n")
  child = call("--workdir=w", "--config.action=interrupted")
  assert (child.returncode, child.stderr) == (130, "interrupted: run the same command again\n")


def test_a_reward_function_that_fails_on_all_answers_is_one_line(call):
  child = call("--workdir=w", "--config.action=rewards")
  assert (child.returncode, child.stderr) == (
    1,
    "error: reward function mine: 1 of 1 answers failed (rewards.max_failures=1 ends the run there): OSError: No space "
    "left on device (mine.py:7); data row: {'prompt': '2+2'}\n",
  )


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


def test_anything_else_is_a_traceback_and_exit_1(call):
  child = call("--workdir=w", "--config.action=bug")
  assert child.returncode == 1
  assert child.stderr.startswith("Traceback") and child.stderr.endswith("ValueError: a bug\n")


def test_replay_is_a_field_of_the_config(call):
  program = PROGRAM.replace('default="tiny")', 'default="tiny", replays=True)').replace(
    "config.on,", "config.get('replay'),"
  )
  (call.directory / "replays.py").write_text(program)
  assert call("--workdir=w", program="replays.py").stdout.startswith("w 3 None ")
  message = "--replay=runs/one: the config has no field replay, expected one, as in tiny"
  assert_refused(call("--workdir=w", "--replay=runs/one", program="replays.py"), message)
  config = call.directory / "configs" / "tiny.py"
  config.write_text(CONFIG.replace('"seed": 0', '"replay": ""'))
  assert call("--workdir=w", "--replay=runs/one", program="replays.py").stdout.startswith("w 3 runs/one ")
  assert "--replay=DIR" in call("--help", program="replays.py").stdout
  assert_refused(call("--workdir=w", "--replay=x"), "Unknown command line flag 'replay'")


def test_a_process_of_several(call):
  (call.directory / "hosts.py").write_text(PROGRAM.replace('default="tiny")', 'default="tiny", distributed=True)'))
  assert (
    call("--workdir=w", program="hosts.py").stdout == "w 3 True None (1, 2) True False\n"
  )  # alone: nothing is joined
  assert "--distributed" in call("--help", program="hosts.py").stdout
  child = call("--workdir=w", "--processes=2", program="hosts.py")
  message = "--distributed: coordinator_address should be defined; expected Cloud TPU, GKE or Slurm, or --coordinator,"
  assert_refused(child, f"{message} --processes and --process")
  child = call("--workdir=w", "--coordinator=h:1", "--processes=2", "--process=2", program="hosts.py")
  assert child.returncode == 2 and child.stderr.startswith("error: --distributed: process_id and num_processes must be")
  assert_refused(call("--workdir=w", "--distributed"), "Unknown command line flag 'distributed'")


def test_help(call):
  child = call("--help")
  assert child.returncode == 0
  assert child.stdout.startswith("What the program does.")
  assert "--workdir=DIR" in child.stdout and "--config.model.width=64" in child.stdout


def test_log_level_and_compilation_cache(call):
  program = """
import os
from absl import logging
from experiments import flags

def main():
  variables = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
  print(*(repr(os.environ[name]) for name in variables), logging.get_verbosity())

flags.run_plain(main)
"""
  (call.directory / "settings.py").write_text(program)
  environment = {"XDG_CACHE_HOME": "/cache", "JAX_COMPILATION_CACHE_DIR": None}
  environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = None
  child = call(program="settings.py", environment=environment)
  assert child.stdout == "'/cache/posttrain_jax/xla' '0' -1\n", child.stderr
  environment |= {"JAX_COMPILATION_CACHE_DIR": "", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1"}
  child = call("--verbosity=0", program="settings.py", environment=environment)
  assert child.stdout == "'' '1' 0\n", child.stderr


def test_a_program_without_a_config(call):
  assert call("--limit=7", program="plain.py").stdout == "7\n"
  assert_refused(call("--limit=x", program="plain.py"), "flag --limit=x: invalid literal for int() with base 10: 'x'")
  assert_refused(call("rest", program="plain.py"), "found the argument 'rest', expected only options, --name=value")
  child = call("--help", program="plain.py")
  assert child.returncode == 0 and "how many rows" in child.stdout
