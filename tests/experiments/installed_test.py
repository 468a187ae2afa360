"""Tests that an installed package has its binaries, its configs and its templates, and runs in any directory."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest
import setuptools

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("posttrain_jax", "experiments", "configs")


def test_every_folder_with_sources_is_a_package(monkeypatch):
  kept = {}
  monkeypatch.setattr(setuptools, "setup", kept.update)
  monkeypatch.chdir(ROOT)
  exec(compile((ROOT / "setup.py").read_text(), "setup.py", "exec"), {})
  with_sources = {
    ".".join(path.parent.relative_to(ROOT).parts) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")
  }
  assert set(kept["packages"]) == with_sources
  data = {
    str(path.relative_to(ROOT))
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.is_file() and path.suffix not in (".py", ".pyc")
  }
  packed = {f"{name.replace('.', '/')}/{file}" for name, files in kept["package_data"].items() for file in files}
  assert packed == data


def call(*arguments, cwd, paths):
  environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
  return subprocess.run(
    [sys.executable, "-m", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
  )


def test_a_binary_runs_in_any_directory_with_a_config_of_the_package(tmp_path):
  done = call("experiments.dapo", "--config=configs/own_task.py:rl", "--help", cwd=tmp_path, paths=[ROOT])
  assert done.returncode == 0, done.stderr
  assert f"with the values of {ROOT / 'configs' / 'own_task.py'}:rl" in done.stdout
  done = call("experiments.dapo", "--config=configs/absent.py", "--workdir=w", cwd=tmp_path, paths=[ROOT])
  assert (
    done.returncode == 2 and done.stderr == "error: --config=configs/absent.py: there is no file configs/absent.py\n"
  )


@pytest.mark.slow  # builds a wheel
def test_a_wheel_is_all_that_is_needed(tmp_path):
  source = tmp_path / "source"  # a build leaves files behind
  shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "__pycache__", "runs", "build", "*.egg-info"))
  build = ["pip", "wheel", "--no-deps", "--quiet", f"--wheel-dir={tmp_path}", str(source)]
  subprocess.run([sys.executable, "-m", *build], check=True, cwd=tmp_path)
  (wheel,) = tmp_path.glob("*.whl")
  with zipfile.ZipFile(wheel) as archive:
    names = set(archive.namelist())
    archive.extractall(tmp_path / "installed")
  assert {"experiments/dapo.py", "configs/own_task.py", "posttrain_jax/reports/report.html.jinja"} <= names
  assert not [name for name in names if name.startswith(("tests/", "docs/", "launch/"))]
  (tmp_path / "elsewhere").mkdir()
  done = call("experiments.sft", "--help", cwd=tmp_path / "elsewhere", paths=[tmp_path / "installed"])
  assert done.returncode == 0 and str(tmp_path / "installed" / "configs" / "tiny_sft.py") in done.stdout, done.stderr
