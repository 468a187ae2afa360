"""Tests that files are joined in the order of their names, each with its template."""

import json

import pytest
from ml_collections import ConfigDict

from posttrain_jax.recipes import joining
from posttrain_jax.recipes.forecast import Forecast
from posttrain_jax.types import InputError


def config_of(tmp_path, **templates):
  config = joining.files(**templates)
  for name in templates:
    file = tmp_path / f"{name}.jsonl"
    file.write_text(json.dumps({"prompt": f"ask {name}", "completion": name}) + "\n")
    config.files[name].path = str(file)
  return config


def test_an_empty_file_has_no_rows(tmp_path):
  (tmp_path / "some.jsonl").write_text('{"prompt": "a"}\n')
  (tmp_path / "none.jsonl").write_text("")
  config = joining.files(none="{prompt}", some="{prompt}")
  for name in config.files:
    config.files[name].path = str(tmp_path / f"{name}.jsonl")
  assert joining.join(config, tmp_path / "made") == {"rows": 1, "none": 0, "some": 1}


def test_rows_come_in_the_order_of_their_names(tmp_path):
  config = config_of(tmp_path, people="user : {prompt} assistant :", chosen="{prompt}")
  joining.check(config)
  assert joining.join(config, tmp_path / "made") == {"rows": 2, "people": 1, "chosen": 1}
  rows = [json.loads(line) for line in (tmp_path / "made" / joining.ROWS).read_text().splitlines()]
  assert rows == [
    {"prompt": "ask chosen", "completion": "chosen"},
    {"prompt": "user : ask people assistant :", "completion": "people"},
  ]


def test_the_rows_of_files_that_do_not_exist_yet_are_expected(tmp_path):
  config, known = joining.files(one="{prompt}", two="{prompt}"), Forecast(0.5)
  for name, count in (("one", 30), ("two", 12)):
    config.files[name].path = str(tmp_path / name)
    known.expect_rows(tmp_path / name, count)
  assert joining.forecast(config, known).rows == {joining.ROWS: 42}


@pytest.mark.parametrize(
  ("files", "message"),
  [
    ({}, "files: found none, expected some to join"),
    ({"one": {"path": "a.jsonl", "template": "ask"}}, r"template: 'ask' has no '\{prompt\}'"),
    ({"one": {"path": "a.jsonl", "template": "{prompt}", "limit": 3}}, r"files\.one\.limit: unknown"),
  ],
)
def test_a_config_that_means_nothing_is_refused(files, message):
  with pytest.raises(InputError, match=message):
    joining.check(ConfigDict({"files": files}))


def test_a_template_is_for_text(tmp_path):
  config = config_of(tmp_path, one="user : {prompt}")
  (tmp_path / "one.jsonl").write_text(json.dumps({"prompt": [{"role": "user", "content": "a"}]}) + "\n")
  with pytest.raises(InputError, match=r"one\.jsonl.*: prompt is .*, expected text for the template"):
    joining.join(config, tmp_path / "made")
