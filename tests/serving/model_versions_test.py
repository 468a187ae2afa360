import pathlib

from posttrain_jax.serving.model_versions import load_version, newest_step
from tests.recipes.saved_model import save_model
from tests.serving.served import save_byte_model


def test_a_run_is_named_by_its_newest_checkpoint_and_its_digest(tmp_path):
  one, two = (save_byte_model(tmp_path / name, *seeds) for name, seeds in (("one", [0]), ("two", [0, 1])))
  first, second = load_version(str(one)), load_version(str(two))
  assert first.version.startswith("step-1-") and second.version.startswith("step-2-")
  assert (first.newest, second.newest, newest_step(str(two))) == (1, 2, 2)
  assert load_version(str(one)).version == first.version
  other = load_version(str(save_byte_model(tmp_path / "other", 5)))
  assert other.version.startswith("step-1-") and other.version != first.version


def test_a_damaged_checkpoint_gives_no_name_to_the_one_before(tmp_path):
  folder = save_byte_model(tmp_path / "run", 0, 1)
  for file in (folder / "checkpoints" / "2").rglob("*"):
    if file.is_file():
      file.write_bytes(b"")
  found = load_version(str(folder))
  assert found.version.startswith("step-1-") and found.newest == 2


def test_a_folder_that_is_no_run_has_no_step(tmp_path):
  assert newest_step(str(tmp_path)) is None
  save_model(tmp_path / "run", 0)
  for manifest in pathlib.Path(tmp_path / "run" / "checkpoints").glob("*.json"):
    manifest.unlink()
  assert newest_step(str(tmp_path / "run")) is None
