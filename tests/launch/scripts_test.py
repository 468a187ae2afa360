import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ("bash", "cat", "cksum", "dirname", "realpath", "rm", "tee")


@pytest.fixture
def checkout(tmp_path):
  """Makes a checkout with the scripts and setup.py.

  Its PATH has few tools and the programs that a test puts into bin/.
  """
  shutil.copytree(ROOT / "launch", tmp_path / "launch")
  shutil.copy(ROOT / "setup.py", tmp_path)
  (tmp_path / "bin").mkdir()
  for tool in TOOLS:
    (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
  return tmp_path


def program(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(f"#!/usr/bin/env bash\n{text}\n")
  path.chmod(0o755)


def call(checkout, script, *arguments, cwd="/"):
  environment = {name: value for name, value in os.environ.items() if name != "PYTHON"} | {
    "PATH": str(checkout / "bin")
  }
  command = [shutil.which("bash"), checkout / "launch" / script, *arguments]
  return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("script", ["quickstart.sh", "test.sh"])
def test_no_python_that_is_new_enough(checkout, script):
  program(checkout / "bin" / "python3", "exit 1")  # what an old Python answers when it is asked for its version
  child = call(checkout, script)
  assert child.returncode == 2
  assert child.stderr.startswith("error: found no Python 3.11 or newer on the PATH") and child.stderr.count("\n") == 1


def test_no_venv_module(checkout):
  program(checkout / "bin" / "python3", '[[ "$*" != *ensurepip* ]]')
  child = call(checkout, "quickstart.sh")
  assert child.returncode == 2
  assert child.stderr.startswith("error: python3 cannot make virtual environments") and child.stderr.count("\n") == 1


@pytest.mark.parametrize("argument", ["--wrokdir=x", "x", "--workdir="])
def test_unknown_argument(checkout, argument):
  child = call(checkout, "quickstart.sh", argument)
  assert child.returncode == 2
  assert child.stderr.startswith(f"error: found {argument}, expected: ") and child.stderr.count("\n") == 1


def test_quickstart_installs_once_and_passes_its_arguments_on(checkout, tmp_path):
  program(checkout / ".venv" / "bin" / "python", f'[ "$1" = -c ] || echo "$@" >>{checkout}/calls')
  elsewhere = tmp_path / "elsewhere"
  elsewhere.mkdir()
  for arguments in ((), ("--workdir=run", "--seed=3", "--config.steps=2")):
    child = call(checkout, "quickstart.sh", *arguments, cwd=elsewhere)
    assert child.returncode == 0, child.stderr
  install, first, second = (checkout / "calls").read_text().splitlines()
  assert install.startswith("-m pip install") and install.endswith("--editable .")
  assert first == "-m experiments.quickstart --workdir=runs/quickstart-seed0 --config.seed=0"
  assert second == f"-m experiments.quickstart --workdir={elsewhere}/run --config.seed=3 --config.steps=2"

  with open(checkout / "setup.py", "a") as setup:
    setup.write("# changed\n")
  assert call(checkout, "quickstart.sh").returncode == 0
  assert (checkout / "calls").read_text().splitlines()[3].startswith("-m pip install")
