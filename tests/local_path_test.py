"""Paths as users write them."""

import pathlib
import re

import pytest

from posttrain_jax.local_path import local_path
from posttrain_jax.types import InputError


@pytest.mark.parametrize(
  "path",
  ["runs/dapo", "/runs/dapo", "./a:b", "smollm2-135m-instruct", "Qwen/Qwen2.5-0.5B", "tfds:gsm8k/train", "a~/b", ""],
)
def test_other_paths_stay(path):
  assert local_path(path) == pathlib.Path(path)


def test_home_is_expanded(monkeypatch):
  monkeypatch.setenv("HOME", "/home/me")
  assert local_path("~/runs/a") == local_path(pathlib.Path("~/runs/a")) == pathlib.Path("/home/me/runs/a")
  assert local_path("~") == pathlib.Path("/home/me")
  with pytest.raises(InputError, match=r"model.path: ~nobody-of-that-name/x: .*, expected a path of this machine"):
    local_path("~nobody-of-that-name/x", "model.path")


@pytest.mark.parametrize(
  "path",
  ["gs://bucket/run", "s3://bucket", "GS://b/r", "hf://Qwen/Qwen2.5", "file:///runs/x", "abfs+x://a/b", "gs:/b/run"],
)
def test_every_scheme_is_refused(path):
  with pytest.raises(InputError, match=rf"^--workdir={re.escape(path)}: only paths of this machine's"):
    local_path(path, "--workdir")
  with pytest.raises(InputError, match=r"^reference\.cache: "):
    local_path(path, "reference.cache")
