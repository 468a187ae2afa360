"""Tests that a lineage names all that a result was made of."""

import pytest

from posttrain_jax.recipes.lineage import lineage
from posttrain_jax.types import InputError
from tests.recipes.made_recipe import FILE, chain, run, run_and_die, stage


def test_a_lineage_has_every_stage_that_was_needed_and_no_other(tmp_path):
  given = tmp_path / "given.jsonl"
  given.write_text('{"text": "outside"}\n')
  first = stage("first")
  first.inputs["path"] = str(given)
  second, third = stage("second", before=first), stage("third")
  run([first, second, third], tmp_path / "recipe")
  found = lineage(tmp_path / "recipe", "second")
  assert [(each.name, each.kind) for each in found] == [("first", "write"), ("second", "write")]
  assert found[1].needs == ("first",) and found[0].needs[0].startswith("sha256 ")
  assert all(len(each.sha256[FILE]) == 12 for each in found)


def test_an_unfinished_stage_has_none(tmp_path):
  run_and_die(tmp_path, "b")
  with pytest.raises(InputError, match="stage b has not finished here"):
    lineage(tmp_path, "b")
  assert [each.name for each in lineage(tmp_path, "a")] == ["a"]


def test_a_changed_stage_is_no_ancestor_of_what_was_made_before(tmp_path):
  run(chain("a", "b"), tmp_path)
  record = tmp_path / "a.stage.json"
  record.write_text(record.read_text().replace('"config.text": "a"', '"config.text": "new"'))
  (found,) = lineage(tmp_path, "b")
  assert found.name == "b" and found.needs[0].startswith("sha256 ")
