import dataclasses

import pytest

from posttrain_jax.recipes import digests, runners
from posttrain_jax.types import InputError
from tests.recipes.made_recipe import chain, stage
from tests.recipes.saved_model import save_model


def contents(stages):
  return {name: digests.digest(content) for name, content in digests.contents(stages).items()}


def test_a_change_reaches_the_stages_that_depend_on_it():
  before, after = contents([*chain("a", "b", "c"), stage("d")]), contents([*chain("a", "b", "c", b="new"), stage("d")])
  assert [name for name in before if before[name] != after[name]] == ["b", "c"]


def test_a_file_from_outside_counts_by_its_bytes(tmp_path):
  file = tmp_path / "rows.jsonl"
  given = dataclasses.replace(stage("a"), inputs={"path": str(file)})
  named = stage("a")
  named.config.path = str(file)
  for each in (given, named):
    file.write_text("one")
    first = contents([each])
    file.touch()
    assert contents([each]) == first
    file.write_text("two")
    assert contents([each]) != first
    file.unlink()
    with pytest.raises(InputError, match=r"stage a: path: .*rows.jsonl: there is no such file"):
      contents([each])


def test_a_reward_function_of_ones_own_counts_by_its_file(tmp_path):
  file = tmp_path / "reward.py"
  file.write_text("one")
  own = stage("a")
  own.config.function = f"{file}:reward"
  first = contents([own])
  file.write_text("two")
  assert contents([own]) != first
  own.config.function = "posttrain_jax.rewards.verifiers:exact_answer"
  assert contents([own])


def test_a_base_model_must_be_one(tmp_path):
  def named(path):
    base = stage("a")
    base.config.model = dict(path=str(path))
    return contents([base])

  (tmp_path / "empty").mkdir()
  (tmp_path / "rows.jsonl").write_text("{}\n")
  for name in ("empty", "rows.jsonl", "no_such"):
    with pytest.raises(InputError, match=rf"stage a: model.path: .*{name}"):
      named(tmp_path / name)
  save_model(tmp_path / "base", 0, 1)
  assert named(tmp_path / "base")
  file = max(
    (tmp_path / "base" / "checkpoints" / "2").rglob("*"), key=lambda each: each.is_file() and each.stat().st_size
  )
  file.write_bytes(file.read_bytes()[:-1])
  with pytest.raises(InputError, match=r"stage a: model.path: .*base: checkpoint .*2 is damaged"):
    named(tmp_path / "base")


def test_where_models_come_from(tmp_path):
  assert digests.outside("tfds:gsm8k:1.0.0/train") == "tfds:gsm8k:1.0.0/train"
  with pytest.raises(InputError, match="no-model"):
    digests.outside("no-model")
  folder = tmp_path / "model"
  folder.mkdir()
  (folder / "config.json").write_text("{}")
  first = digests.content_digest(folder)
  (folder / "model.safetensors").write_text("weights")
  assert digests.content_digest(folder) != first
  (folder / "model.json").write_text("{}")  # now a run's
  with pytest.raises(InputError, match="found no finished checkpoint"):
    digests.content_digest(folder)


def test_what_only_shows_a_run_does_not_count():
  quiet, loud = stage("a"), stage("a")
  quiet.config.logging, loud.config.logging = {"report": False}, {"report": True}
  assert contents([quiet]) == contents([loud])


def test_the_source_of_a_function_counts():
  def made(config, folder):
    return None

  first = stage("a", run=runners.function(made))
  other = stage("a", run=dataclasses.replace(first.run, source="def made(config, folder):\n  return 1"))
  assert contents([first]) != contents([other])
  assert digests.difference(*(digests.contents([each])["a"] for each in (first, other))) == "its function has changed"


def test_the_first_difference_is_named():
  assert digests.difference({"config.x": 1}, {"config.x": 1}) == ""
  assert digests.difference({"config.x": 1, "inputs.y": "a"}, {"config.x": 2, "inputs.y": "b"}) == "x was 1, is 2"
  assert digests.difference({"config.x": 1}, {"config.z": 2}) == "z was absent, is 2"
  assert digests.difference({"inputs.y": "a"}, {"inputs.y": "b"}) == "y has changed"
