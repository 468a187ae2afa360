import dataclasses

import pytest

from posttrain_jax.recipes import records
from posttrain_jax.recipes.records import StageRecord
from posttrain_jax.types import InputError
from tests.recipes.made_recipe import FILE, stage


def finished(directory, name="a"):
  (directory / name).mkdir()
  (directory / name / FILE).write_text("one")
  made = stage(name)
  record = StageRecord({"config.text": "a"}, finished=True, outputs=records.outputs(directory, made))
  records.write(directory, name, record)
  return made, record


def test_a_record_is_read_as_it_was_written(tmp_path):
  assert records.read(tmp_path, "a") is None
  _, record = finished(tmp_path)
  assert records.read(tmp_path, "a") == record and list(record.outputs) == [FILE]


def test_a_broken_record_is_named(tmp_path):
  (tmp_path / "a.stage.json").write_text("{")
  with pytest.raises(InputError, match=r"a.stage.json: cannot be read .* remove it, and the stage runs again"):
    records.read(tmp_path, "a")


def test_outputs_that_are_missing_or_changed(tmp_path):
  made, record = finished(tmp_path)
  records.check_outputs(tmp_path, made, record, whole_model=True)
  (tmp_path / "a" / FILE).write_text("two")
  with pytest.raises(InputError, match="is not what stage a wrote"):
    records.check_outputs(tmp_path, made, record, whole_model=True)
  (tmp_path / "a" / FILE).unlink()
  with pytest.raises(InputError, match="is missing, stage a wrote it"):
    records.check_outputs(tmp_path, made, record, whole_model=True)


def test_a_stage_without_its_model(tmp_path):
  made, record = finished(tmp_path)
  made = dataclasses.replace(made, run=dataclasses.replace(made.run, has_model=True))
  (tmp_path / "a" / "model.json").write_text("{}")
  with pytest.raises(InputError, match="found no finished checkpoint"):
    records.outputs(tmp_path, made)
  with pytest.raises(InputError, match=r"stage a: .*found no finished checkpoint.*; restore it, or remove"):
    records.check_outputs(tmp_path, made, dataclasses.replace(record, outputs={"model": "x"}), whole_model=True)


def test_what_is_put_aside_is_kept(tmp_path):
  for number in (1, 2):
    finished(tmp_path)
    assert records.put_aside(tmp_path, "a") == tmp_path / "replaced" / f"a-{number}"
    assert (tmp_path / "replaced" / f"a-{number}" / FILE).exists()
    assert (tmp_path / "replaced" / f"a-{number}.stage.json").exists()
  assert records.put_aside(tmp_path, "a") is None
