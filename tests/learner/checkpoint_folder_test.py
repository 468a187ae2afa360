"""Tests what is told of a directory: finished, unfinished and lost steps, strays."""

import os

import pytest

from posttrain_jax.learner import checkpoint_folder, manifest
from posttrain_jax.types import InputError


def add(directory, step, *, sealed=True, marked=False):
  (directory / str(step) / "state").mkdir(parents=True)
  (directory / str(step) / "state" / "data").write_bytes(b"weights")
  if sealed:
    manifest.seal(directory, step, {}, best=False)
  if marked:
    checkpoint_folder.mark_unfinished(directory, step)


def names(directory):
  return {path.name for path in directory.iterdir()}


def test_kinds_of_steps(tmp_path):
  add(tmp_path, 9)
  add(tmp_path, 10)
  add(tmp_path, 11, sealed=False)
  add(tmp_path, 12, sealed=False, marked=True)
  assert checkpoint_folder.finished_steps(tmp_path) == [9, 10]
  assert checkpoint_folder.lost_steps(tmp_path) == [11]
  assert checkpoint_folder.strays(tmp_path) == []
  assert checkpoint_folder.finished_steps(tmp_path / "none") == []


def test_only_what_is_known_to_be_unfinished_is_removed(tmp_path):
  add(tmp_path, 1, marked=True)  # killed after its manifest was written
  add(tmp_path, 2, sealed=False, marked=True)
  add(tmp_path, 3, sealed=False)
  checkpoint_folder.mark_unfinished(tmp_path, 4)  # killed before anything was written
  (tmp_path / "5.orbax-checkpoint-tmp-17" / "state").mkdir(parents=True)
  (tmp_path / "6.manifest.json.tmp").write_text("{")
  (tmp_path / "notes.tmp").write_text("mine")
  assert checkpoint_folder.remove_unfinished(tmp_path) == ["5.orbax-checkpoint-tmp-17", "2"]
  assert names(tmp_path) == {"1", "1.manifest.json", "3", "notes.tmp"}
  assert checkpoint_folder.finished_steps(tmp_path) == [1]


@pytest.mark.parametrize("name", ["x", "77", "-1", "1.5", "\u00b2", "\u0663.manifest.json", "01", "7.damaged.txt"])
def test_other_names_are_strays(tmp_path, name):
  add(tmp_path, 1)
  (tmp_path / name).mkdir()
  assert checkpoint_folder.strays(tmp_path) == [name]
  assert checkpoint_folder.newest_undamaged(tmp_path) == (1, [])
  (tmp_path / name).rmdir()
  (tmp_path / name).write_text("")
  assert checkpoint_folder.strays(tmp_path) == [name]
  assert checkpoint_folder.newest_undamaged(tmp_path) == (1, [])


def test_a_manifest_that_is_a_directory_is_none(tmp_path):
  add(tmp_path, 1)
  add(tmp_path, 2, sealed=False)
  manifest.manifest_path(tmp_path, 2).mkdir()
  assert checkpoint_folder.strays(tmp_path) == ["2.manifest.json"]
  step, notes = checkpoint_folder.newest_undamaged(tmp_path)
  assert step == 1 and notes == [
    f"checkpoint {tmp_path / '2'} is damaged: its manifest is missing",
    "fell back to step 1",
  ]
  assert checkpoint_folder.set_aside(tmp_path, 2) == tmp_path / "2.damaged"
  assert names(tmp_path) == {"1", "1.manifest.json", "2.damaged", "2.damaged.manifest.json"}


def test_setting_aside_overwrites_nothing(tmp_path):
  for _ in range(3):
    add(tmp_path, 5)
    checkpoint_folder.set_aside(tmp_path, 5)
  asides = ["5.damaged", "5.damaged-2", "5.damaged-3"]
  assert names(tmp_path) == {*asides, *(f"{name}.manifest.json" for name in asides)}
  assert [path.name for path in checkpoint_folder.set_aside_steps(tmp_path)] == asides
  assert checkpoint_folder.finished_steps(tmp_path) == [] == checkpoint_folder.strays(tmp_path)
  with pytest.raises(InputError, match=r"5\.damaged was set aside as damaged; no undamaged step is left"):
    checkpoint_folder.newest_undamaged(tmp_path)
  assert checkpoint_folder.set_aside(tmp_path, 6) is None


def test_what_cannot_be_looked_at_is_taken_for_a_checkpoint(tmp_path, monkeypatch):
  add(tmp_path, 1)
  add(tmp_path, 2, sealed=False)
  stat = os.stat

  def fails(path, *arguments, **options):
    if os.fspath(path).endswith("/2"):
      raise OSError(5, "Input/output error")
    return stat(path, *arguments, **options)

  monkeypatch.setattr(os, "stat", fails)
  assert checkpoint_folder.lost_steps(tmp_path) == [2]


def test_a_directory_that_cannot_be_listed_is_one_line(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(InputError, match="file: cannot be listed"):
    checkpoint_folder.finished_steps(tmp_path / "file")
