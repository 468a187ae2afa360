import os
import subprocess
import sys

import pytest

from posttrain_jax.performance.preparation import family, measure_preparation, memory_of
from posttrain_jax.types import InputError


def test_a_small_preparation(tmp_path):
  found = measure_preparation(tmp_path / "new", 1, workers=1, seed=0)
  assert found["documents"] > 200 and found["dropped_near"] > 0 and found["kept"] > 100
  assert found["cpu_seconds"] > 0 and found["seconds"] > 0
  assert 50 < found["largest_process_mib"] <= found["all_processes_mib"] < 5000


def test_a_folder_with_something_in_it_is_refused(tmp_path):
  (tmp_path / "x").touch()
  with pytest.raises(InputError, match="is not empty"):
    measure_preparation(tmp_path, 1, workers=1, seed=0)


def test_a_family_is_a_process_with_its_children():
  child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
  try:
    assert set(family(os.getpid())) >= {os.getpid(), child.pid}
    assert memory_of(os.getpid()) > 20
  finally:
    child.communicate(b"\n")
  assert memory_of(child.pid) == 0 and family(child.pid) == [child.pid]
