import dataclasses

import pytest

from configs import prepare
from posttrain_jax.pipelines.prepare_settings import PrepareSettings
from posttrain_jax.runs.settings import parse
from posttrain_jax.types import InputError


def settings(**changes):
  config = prepare.get_config()
  config.input.paths = ("a.jsonl",)
  config.update(changes)
  return parse(PrepareSettings, config)


def test_rules_without_a_list_are_not_asked():
  usual = settings()
  assert usual.asked == ("length", "symbols", "language", "repetition")
  listed = dataclasses.replace(usual, toxicity=dataclasses.replace(usual.toxicity, words=("vile",)))
  assert listed.asked[-1] == "toxicity"
  assert settings(rules=("symbols", "contamination")).asked == ("symbols",)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(rules=("lenght",)), "rules: 'lenght', expected names out of length, symbols"),
    (dict(rules=("length", "length")), "rules: 'length'"),
    (dict(workers=-1), "workers: -1, expected at least 0"),
    (dict(shard_megabytes=0), "shard_megabytes: 0"),
    (dict(near=dict(bands=100)), r"near\.bands: 100 does not divide"),
  ],
)
def test_settings_that_are_refused(changes, message):
  with pytest.raises(InputError, match=message):
    settings(**changes)


def test_no_paths_are_refused():
  with pytest.raises(InputError, match=r"input\.paths: none"):
    parse(PrepareSettings, prepare.get_config())
