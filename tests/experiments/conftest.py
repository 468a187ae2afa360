import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.experiments.small_program import CONFIG, PLAIN, PROGRAM

ROOT = Path(__file__).resolve().parents[2]


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
