"""Tests the checks of stages' configs: what a record refuses, and what a stage needs besides."""

import dataclasses

import pytest
from ml_collections import ConfigDict

from posttrain_jax.recipes.checks import check_of
from posttrain_jax.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge:
  path: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  judge: Judge
  files: tuple[str, ...]


def config(path="somewhere", files=("a",)):
  return ConfigDict(dict(judge=dict(path=path), files=files))


def test_a_config_fills_the_record():
  check_of(Settings)(config(path="", files=()))
  with pytest.raises(InputError, match=r"\bsteps\b"):
    check_of(Settings)(ConfigDict({**config(), "steps": 1}))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"path": ""}, "judge.path: empty, expected PATH_OR_NAME of a model"),
    ({"files": ()}, "files: found none, expected some to join"),
  ],
)
def test_what_a_stage_needs_is_not_empty(changes, message):
  check = check_of(Settings, {"judge.path": "PATH_OR_NAME of a model", "files": "some to join"})
  check(config())
  with pytest.raises(InputError) as error:
    check(config(**changes))
  assert str(error.value) == message
