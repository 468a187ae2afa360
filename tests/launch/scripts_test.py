import json
import os
import pathlib
import shutil
import subprocess
import sys

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
  environment = {
    name: value
    for name, value in os.environ.items()
    if name not in ("PYTHON", "PYTHONPATH", "JAX_PLATFORMS", "XLA_PYTHON_CLIENT_MEM_FRACTION", "CUDA_VISIBLE_DEVICES")
  } | {"PATH": str(checkout / "bin")}
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


FAKE_PYTHON = """
case "$*" in
  *default_backend*) echo "${BACKEND:-gpu}" ;;
  *version_info*) ;;
  *) echo "$PYTHONPATH" "$@" >>"$0.calls"; case "$*" in *wheels*) exit "${MISSING:-0}" ;; esac ;;
esac
"""


def test_measuring_a_gpu(checkout, tmp_path):
  """Asks JAX for a GPU, looks for missing packages, and hands the time that is left and the flags on."""
  program(checkout / "bin" / "python3", FAKE_PYTHON)
  (tmp_path / "elsewhere" / "here").mkdir(parents=True)
  arguments = ("--wheels=here", "--models=smollm2_135m", "--seconds=300")
  child = call(checkout, "measure_gpu.sh", *arguments, cwd=tmp_path / "elsewhere")
  assert child.returncode == 0, child.stderr
  packages = checkout / "build" / "measure_gpu"
  find, measure = (checkout / "bin" / "python3.calls").read_text().splitlines()
  wanted = "posttrain_jax.performance.device_report experiments.flags"
  assert find.endswith(f"posttrain_jax.performance.wheels {tmp_path}/elsewhere/here {packages} {wanted}")
  path, *command = measure.split()
  assert path == f"{checkout}:{packages}"
  seconds = int(command[2].removeprefix("--seconds="))
  assert command == ["-m", "experiments.measure_gpu", f"--seconds={seconds}", "--models=smollm2_135m"]
  assert 290 <= seconds <= 300


@pytest.mark.parametrize(
  ("environment", "arguments", "code", "message"),
  [
    ({"BACKEND": "cpu"}, [], 2, "error: python3 has cpu, expected JAX for CUDA and a GPU that it sees"),
    ({"MISSING": "2"}, [], 2, ""),
    ({}, ["--wheels=/no/such/folder"], 2, "error: --wheels=/no/such/folder: there is no such folder"),
    ({}, ["--seconds=soon"], 2, "error: --seconds=soon, expected a whole number"),
    ({}, ["x"], 2, "error: found x, expected: bash launch/measure_gpu.sh"),
  ],
)
def test_a_gpu_that_cannot_be_measured(checkout, monkeypatch, environment, arguments, code, message):
  program(checkout / "bin" / "python3", FAKE_PYTHON)
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  child = call(checkout, "measure_gpu.sh", *arguments)
  assert child.returncode == code and child.stderr.startswith(message) and child.stderr.count("\n") <= 1
  assert not any("experiments.measure_gpu" in line for line in calls_of(checkout))


def calls_of(checkout):
  calls = checkout / "bin" / "python3.calls"
  return calls.read_text().splitlines() if calls.exists() else []


@pytest.mark.slow
def test_a_report_on_this_machine():
  """Runs the whole script on a CPU with the smallest model."""
  sizes = (
    "--models=smol_4layer",
    "--prompts=2",
    "--group=2",
    "--prompt_length=4",
    "--new_tokens=4",
    "--slots=4",
    "--check_length=16",
  )
  environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHON": sys.executable}
  command = ["bash", ROOT / "launch" / "measure_gpu.sh", "--seconds=3600", "--runs=1", *sizes]
  child = subprocess.run(command, env=environment, capture_output=True, text=True)
  assert child.returncode == 0, child.stderr
  found = json.loads(child.stdout.splitlines()[-1])
  assert found["passed"] and found["left_out"] == [] and found["device"] == "cpu"
  assert [shape["part"] for shape in found["shapes"]] == ["smol_4layer:1", "smol_4layer:4"]
  for shape in found["shapes"]:
    assert shape["rollout"]["tokens_per_second"] > 0 and shape["peak_memory_gib"] > 0
    assert shape["update"]["share_of_peak"] is None  # a CPU is not in the table
