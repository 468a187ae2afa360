"""Paths as users write them."""

import pathlib
import re

import pytest

from posttrain_jax.assembly import model
from posttrain_jax.data.model_tokenizer import load_tokenizer
from posttrain_jax.data.prompts import file_digest, read_jsonl
from posttrain_jax.evaluation.score import score
from posttrain_jax.local_path import local_path, output_file
from posttrain_jax.models.load import resolve
from posttrain_jax.pipelines.dpo import ReferenceCache
from posttrain_jax.reports.run_curves import write_curves
from posttrain_jax.rollouts.replay import Replay
from posttrain_jax.runs.journal import read_metrics
from posttrain_jax.runs.workdir import Workdir, read_json
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


def replay(path):
  sizes = dict(steps=1, groups=1, group_size=1, temperature=1.0, prompt_width=1, answer_width=1, tokenizer_digest="")
  return Replay(path, **sizes)


TAKES_A_PATH = {
  "workdir": lambda path: Workdir.open(path, {}),
  "config.json": read_json,
  "metrics.jsonl": read_metrics,
  "rows": read_jsonl,
  "a digest": file_digest,
  "a public model": resolve,
  "a tokeniser": load_tokenizer,
  "a model": model.open_policy,
  "a model without its tokeniser": model.load_model,
  "the tokeniser of a model": model.find_tokenizer,
  "a replay": replay,
  "a cache": lambda path: ReferenceCache(cache=path),
  "scores": lambda path: score("model", "rows.jsonl", path),
  "a picture": lambda path: write_curves({"a": "runs/a"}, ["loss"], path),
  "the runs of a picture": lambda path: write_curves({"a": path}, ["loss"], "curves.png"),
}


@pytest.mark.parametrize("what", TAKES_A_PATH)
def test_everything_that_takes_a_path_knows_buckets(what, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(InputError, match=r"gs://bucket/x\.jsonl: only paths of this machine's file system work today"):
    TAKES_A_PATH[what]("gs://bucket/x.jsonl")
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["rows", "a digest", "config.json"])
def test_and_the_home_directory(what, tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  (tmp_path / "config.json").write_text('{"a": 1}')
  assert TAKES_A_PATH[what]("~/config.json" if what != "config.json" else "~")


def test_an_output_is_a_file_in_a_directory_that_exists(tmp_path):
  assert output_file(tmp_path / "new.jsonl", "--output") == tmp_path / "new.jsonl"
  for wrong in (tmp_path, tmp_path / "absent" / "new.jsonl"):
    with pytest.raises(InputError, match=f"--answers={wrong}: expected a file in a directory that exists"):
      output_file(wrong, "--answers")
