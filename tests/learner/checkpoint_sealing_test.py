"""Tests when a checkpoint counts as finished, and what a save that fails or is killed leaves."""

import os
import pathlib
import resource
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.learner import checkpoint, manifest
from posttrain_jax.learner.checkpoint import Checkpointer
from posttrain_jax.learner.digest import params_sha256
from tests.learner.small_state import finished, place, target

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_keeps_the_newest_and_the_best(tmp_path):
  with Checkpointer(tmp_path, keep=2) as checkpointer:
    for step in range(1, 7):
      checkpointer.save(step, place(step), {}, best=step in (1, 3))
    checkpointer.wait()
    assert finished(tmp_path) == [3, 5, 6]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["3", "5", "6"]
    assert checkpoint.best_step(tmp_path) == 3
    checkpointer.save(7, place(7), {}, best=True)
  assert finished(tmp_path) == [6, 7]


def test_older_steps_stay_until_the_newer_one_is_verified(tmp_path, monkeypatch):
  with Checkpointer(tmp_path, keep=1) as checkpointer:
    checkpointer.save(1, place(1), {})
    checkpointer.wait()
    monkeypatch.setattr(manifest, "damage", lambda directory, step: "unreadable")
    checkpointer.save(2, place(2), {})
    with pytest.raises(OSError, match="could not be read back"):
      checkpointer.wait()
  assert finished(tmp_path) == [1, 2]


def test_saving_a_step_again_leaves_it(tmp_path):
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(1), {"first": True})
    checkpointer.save(1, place(2), {"first": False})
    assert checkpointer.restore(target()).extra == {"first": True}


def test_files_of_the_caller_are_written_beside_and_protected(tmp_path):
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(1), {}, files={"groups": lambda: b"one"})
    checkpointer.save(2, place(2), {}, files={"groups": lambda: b"two"})
    restored = checkpointer.restore(target())
    assert (restored.path / "groups").read_bytes() == b"two"
  (tmp_path / "2" / "groups").write_bytes(b"twp")
  restored = checkpoint.load(tmp_path, target())
  assert (restored.step, (restored.path / "groups").read_bytes()) == (1, b"one")
  assert restored.notes[0].endswith("groups is not what was written (sha256 differs)")


def test_a_file_that_cannot_be_made_fails_the_save(tmp_path):
  def broken():
    raise OSError(28, "No space left on device")

  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(1), {}, files={"groups": broken})
    checkpointer._sealing.join()
    with pytest.raises(OSError, match="No space left"):
      checkpointer.check()  # without waiting for the next save
    checkpointer.check()  # it is told once
  assert finished(tmp_path) == []
  with Checkpointer(tmp_path) as checkpointer:
    assert checkpointer.restore(target()) is None  # the half-written step is known to be unfinished
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_is_raised(tmp_path, monkeypatch):
  def full(*args, **kwargs):
    raise OSError("No space left on device")

  with Checkpointer(tmp_path) as checkpointer:
    monkeypatch.setattr(manifest, "seal", full)
    checkpointer.save(1, place(1), {})
    with pytest.raises(OSError, match="No space left"):
      checkpointer.wait()
  assert finished(tmp_path) == []


MOMENTS = (
  "while data is written",
  "before the manifest",
  "before the manifest has its name",
  "while the old step is deleted",
  "before the mark of the old step is removed",
)
# Saves steps 1 and 2 with `keep=1`, and dies during the second at the moment that `moment` names. There is a process
# for each moment, forked before JAX has a backend, since imports take longest.
KILLED = """
import os, signal, sys
import jax, jax.numpy as jnp
from posttrain_jax import atomic_files
from posttrain_jax.learner import checkpoint, checkpoint_folder, manifest

parent, *moments = sys.argv[1:]
for moment in moments:
  child = os.fork()
  if not child:
    break
  _, status = os.waitpid(child, 0)
  if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
    sys.exit(f"{moment}: status {status}")
else:
  sys.exit()
directory = os.path.join(parent, moment)
die = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
make = jax.jit(lambda seed: {"w": jnp.arange(2**21, dtype=jnp.int32).reshape(2048, 1024) * seed})
checkpointer = checkpoint.Checkpointer(directory, keep=1)
checkpointer.save(1, make(1), {"at": 1})
checkpointer.wait()
if moment == "before the manifest":
  manifest.seal = die
if moment == "before the manifest has its name":
  atomic_files.write_bytes = lambda path, text: (path.with_name(path.name + ".tmp").write_bytes(text), die())
if moment == "while the old step is deleted":
  checkpoint_folder.shutil.rmtree = die
if moment == "before the mark of the old step is removed":
  mark = checkpoint_folder.mark_finished
  checkpoint_folder.mark_finished = lambda directory, step: die() if step == 1 else mark(directory, step)
checkpointer.save(2, make(2), {"at": 2})
if moment == "while data is written":
  die()
checkpointer.wait()
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
  """Returns a directory with the checkpoints of a killed process for each moment."""
  path = tmp_path_factory.mktemp("killed")
  (path / "killed.py").write_text(KILLED)
  command = [sys.executable, path / "killed.py", path, *MOMENTS]
  environment = os.environ | {"PYTHONPATH": str(ROOT)}
  done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, done.stderr
  return path


@pytest.mark.parametrize("moment", MOMENTS)
def test_sigkill_leaves_the_newest_complete_step(killed, moment):
  directory = killed / moment
  make = jax.jit(lambda seed: {"w": jnp.arange(2**21, dtype=jnp.int32).reshape(2048, 1024) * seed})
  with Checkpointer(directory, keep=1) as checkpointer:
    restored = checkpointer.restore(jax.eval_shape(make, 0))
    expected = {"while data is written": (1, 2)}.get(moment, (2,) if "old step" in moment else (1,))
    assert restored.step in expected
    assert restored.extra == {"at": restored.step}
    assert params_sha256(restored.state) == params_sha256(make(restored.step))
    assert {path.name for path in directory.iterdir()} == {f"{restored.step}", f"{restored.step}.manifest.json"}
    checkpointer.save(3, make(3), {})
  assert finished(directory) == [3]


def test_a_failed_write_is_raised_and_not_logged_besides(tmp_path, capfd):
  """As on a full disk: Orbax's threads would print the traceback that the caller gets."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  state = {"w": np.random.default_rng(0).normal(size=(512, 1024))}
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, {"w": np.zeros((2, 2))}, {})
    checkpointer.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))  # Python ignores SIGXFSZ
    try:
      checkpointer.save(2, state, {})
      with pytest.raises(Exception, match="File too large"):
        checkpointer.wait()
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert finished(tmp_path) == [1]
  assert "Traceback" not in capfd.readouterr().err
