"""Tests that damage to checkpoints is noticed, whatever is damaged, and deletes nothing."""

import pytest

from posttrain_jax.learner import checkpoint, manifest
from posttrain_jax.learner.checkpoint import Checkpointer
from posttrain_jax.learner.digest import params_sha256
from posttrain_jax.types import InputError
from tests.learner.small_state import finished, flip_one_bit, largest_file, place, target


def test_one_flipped_bit_is_noticed_and_the_step_before_is_used(tmp_path):
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(1), {})
    checkpointer.save(2, place(2), {})
  flip_one_bit(largest_file(tmp_path / "2" / "state"))
  with Checkpointer(tmp_path) as checkpointer:
    restored = checkpointer.restore(target())
    assert restored.step == 1
    assert params_sha256(restored.state) == params_sha256(place(1))
    assert "sha256 differs" in restored.notes[0] and "2 is damaged" in restored.notes[0]
    assert restored.notes[1] == "fell back to step 1"
    assert (tmp_path / "2.damaged").is_dir()
    checkpointer.save(2, place(2), {})  # the run arrives there again
    assert checkpointer.restore(target()).step == 2


@pytest.mark.parametrize("harm", ["missing file", "added file", "manifest cut short", "missing step"])
def test_other_damage_is_noticed(tmp_path, harm):
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(1), {})
    checkpointer.save(2, place(2), {})
  if harm == "missing file":
    (tmp_path / "2" / "extra" / "metadata").unlink()
  elif harm == "added file":
    (tmp_path / "2" / "state" / "new").write_text("x")
  elif harm == "missing step":
    (tmp_path / "2").rename(tmp_path / "elsewhere")
  else:
    path = manifest.manifest_path(tmp_path, 2)
    path.write_text(path.read_text()[:-20])
  with Checkpointer(tmp_path) as checkpointer:
    assert checkpointer.restore(target()).step == 1


def test_all_steps_damaged_is_an_error_not_a_new_start(tmp_path):
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(1), {})
  flip_one_bit(largest_file(tmp_path / "1" / "state"))
  with Checkpointer(tmp_path) as checkpointer, pytest.raises(InputError, match=r"1 is damaged.*no undamaged step"):
    checkpointer.restore(target())
  assert (tmp_path / "1").is_dir()


def test_a_step_that_lost_its_manifest_is_set_aside_not_deleted(tmp_path):
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(1), {})
    checkpointer.save(2, place(2), {})
  manifest.manifest_path(tmp_path, 2).unlink()
  before = {
    path.relative_to(tmp_path / "2"): path.read_bytes() for path in (tmp_path / "2").rglob("*") if path.is_file()
  }
  assert checkpoint.load(tmp_path, target()).step == 1
  assert (tmp_path / "2").is_dir()  # reading changes nothing
  with Checkpointer(tmp_path) as checkpointer:
    restored = checkpointer.restore(target())
    assert restored.step == 1
    assert "2 is damaged: its manifest is missing" in restored.notes[0]
    assert not (tmp_path / "2").exists()
    checkpointer.save(2, place(2), {})
  assert finished(tmp_path) == [1, 2]
  aside = tmp_path / "2.damaged"
  assert {path.relative_to(aside): path.read_bytes() for path in aside.rglob("*") if path.is_file()} == before


def test_all_manifests_lost_is_an_error_and_deletes_nothing(tmp_path):
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(1), {})
    checkpointer.save(2, place(2), {})
  kept = {step: manifest.manifest_path(tmp_path, step).read_bytes() for step in (1, 2)}
  for step in kept:
    manifest.manifest_path(tmp_path, step).unlink()
  for _ in range(2):  # a second start finds the same
    with (
      Checkpointer(tmp_path) as checkpointer,
      pytest.raises(InputError, match="2 is damaged: its manifest is missing"),
    ):
      checkpointer.restore(target())
  manifest.manifest_path(tmp_path, 1).write_bytes(kept[1])  # as from a copy
  with Checkpointer(tmp_path) as checkpointer:
    assert checkpointer.restore(target()).step == 1
  manifest.manifest_path(tmp_path, 1).unlink()
  (tmp_path / "1").rename(tmp_path / "1.damaged")  # nothing is left but what was set aside
  with Checkpointer(tmp_path) as checkpointer, pytest.raises(InputError, match="was set aside as damaged"):
    checkpointer.restore(target())


def test_strays_are_ignored_with_one_warning(tmp_path, caplog):
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(1), {})
  (tmp_path / "77").mkdir()
  (tmp_path / "3").write_text("a file")
  (tmp_path / "\u00b2.manifest.json").write_text("{}")  # a digit, but no number
  (tmp_path / "007.manifest.json").write_text("{}")
  manifest.manifest_path(tmp_path, 2).mkdir()
  (tmp_path / "notes").mkdir()
  with caplog.at_level("WARNING", "absl"), Checkpointer(tmp_path) as checkpointer:
    restored = checkpointer.restore(target())
    assert (restored.step, restored.notes) == (1, ())
    (warning,) = (record.getMessage() for record in caplog.records)
    for name in ("77", "3", "\u00b2.manifest.json", "007.manifest.json", "2.manifest.json", "notes"):
      assert name in warning
    for step in (2, 3):  # whose names are taken
      checkpointer.save(step, place(step), {})
      checkpointer.wait()
  assert finished(tmp_path) == [2, 3] and manifest.damage(tmp_path, 2) is None
  assert (tmp_path / "3.damaged").read_text() == "a file" and (tmp_path / "77").is_dir()


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_a_file_that_cannot_be_read_is_damage(tmp_path, monkeypatch, error):
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(1, place(1), {})
    checkpointer.save(2, place(2), {})
  digest = manifest.hashlib.file_digest

  def fails(file, name):
    if "2/state" in file.name:
      raise error
    return digest(file, name)

  monkeypatch.setattr(manifest.hashlib, "file_digest", fails)
  with Checkpointer(tmp_path) as checkpointer:
    restored = checkpointer.restore(target())
  assert restored.step == 1 and error.strerror in restored.notes[0]
