"""Tests what a binary prints, and its exit code, whatever ends it."""

from tests.experiments.small_program import CONFIG, PROGRAM, assert_refused


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
