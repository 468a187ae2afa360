"""Tests the cache of finished warm-ups with made folders: what is taken, kept, refused and removed."""

import json
import threading

import pytest

from posttrain_jax.runs import warmup_cache
from posttrain_jax.runs.warmup_cache import WarmUpCache, cache_folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.setenv("POSTTRAIN_JAX_WARMUPS", str(tmp_path / "cache"))
  return tmp_path / "cache"


def begun(cache, path):
  path.parent.mkdir(parents=True, exist_ok=True)
  told = cache.take(path)
  if told is None:
    (path / "checkpoints").mkdir()
    (path / "checkpoints" / "params").write_text(path.parent.name)
  return told


def contents(path):
  return (path / "checkpoints" / "params").read_text()


def test_what_one_run_made_another_takes(folder, tmp_path):
  cache, (first, second) = WarmUpCache({"seed": 0}), (tmp_path / name / "warmup" for name in "ab")
  assert begun(cache, first) is None
  cache.keep(first)
  assert str(folder / cache.digest) in begun(WarmUpCache({"seed": 0}), second)
  assert contents(second) == "a" and contents(first) == "a"
  (second / "checkpoints" / "params").write_text("changed")  # a copy, not a link
  assert contents(folder / cache.digest) == "a"
  assert begun(WarmUpCache({"seed": 1}), tmp_path / "c" / "warmup") is None


@pytest.mark.parametrize("name", ["_code", "_cpu_model"])
def test_other_code_or_another_machine_is_another_warm_up(folder, monkeypatch, name):
  before = WarmUpCache({}).digest
  monkeypatch.setattr(warmup_cache, name, lambda: "other")
  assert WarmUpCache({}).digest != before


def test_a_warm_up_that_exists_is_left_alone(folder, tmp_path):
  cache, path = WarmUpCache({}), tmp_path / "a" / "warmup"
  begun(cache, path)
  cache.keep(path)
  (path / "checkpoints" / "params").write_text("of an earlier start")
  assert cache.take(path) is None and contents(path) == "of an earlier start"


def test_one_that_was_begun_under_other_conditions_is_not_kept(folder, tmp_path):
  path = tmp_path / "a" / "warmup"
  begun(WarmUpCache({"mesh": 1}), path)
  WarmUpCache({"mesh": 2}).keep(path)
  (tmp_path / "old").mkdir()
  WarmUpCache({"mesh": 1}).keep(tmp_path / "old")  # begun before there was a cache
  assert not folder.exists()


def test_what_a_kill_left_behind_counts_for_nothing(folder, tmp_path):
  cache, path = WarmUpCache({}), tmp_path / "a" / "warmup"
  (folder / f".{cache.digest}_half").mkdir(parents=True)
  (path.parent / ".warmup_half").mkdir(parents=True)
  assert begun(cache, path) is None
  assert not (path.parent / ".warmup_half").exists()


def test_runs_that_end_together_leave_one_whole_copy(folder, tmp_path):
  cache = WarmUpCache({})
  paths = [tmp_path / str(i) / "warmup" for i in range(8)]
  for path in paths:
    begun(cache, path)
  threads = [threading.Thread(target=cache.keep, args=(path,)) for path in paths]
  [thread.start() for thread in threads]
  [thread.join() for thread in threads]
  assert [entry.name for entry in folder.iterdir()] == [cache.digest]
  assert contents(folder / cache.digest) in "01234567"


def test_the_newest_stay(folder, tmp_path, monkeypatch):
  monkeypatch.setattr(warmup_cache, "_KEPT", 2)
  caches = [WarmUpCache({"seed": i}) for i in range(4)]
  for i, cache in enumerate(caches):
    path = tmp_path / str(i) / "warmup"
    begun(cache, path)
    cache.keep(path)
  assert {entry.name for entry in folder.iterdir()} == {cache.digest for cache in caches[2:]}


def test_a_damaged_or_unwritable_cache_ends_no_run(folder, tmp_path, caplog):
  cache, path = WarmUpCache({}), tmp_path / "a" / "warmup"
  begun(cache, path)
  cache.keep(path)
  (folder / cache.digest / "source.json").write_text("{")
  assert begun(cache, tmp_path / "b" / "warmup") is None and "could not be taken" in caplog.text
  folder.rename(tmp_path / "gone")
  folder.write_text("a file in its place")
  cache.keep(path)
  assert "could not be kept" in caplog.text


def test_the_environment_names_the_folder_or_none(monkeypatch, tmp_path):
  monkeypatch.setenv("POSTTRAIN_JAX_WARMUPS", "")
  assert cache_folder() is None
  path = tmp_path / "a" / "warmup"
  cache = WarmUpCache({})
  begun(cache, path)
  cache.keep(path)
  assert json.loads((path / "source.json").read_text())["digest"] == cache.digest
  monkeypatch.delenv("POSTTRAIN_JAX_WARMUPS")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  assert cache_folder() == tmp_path / "posttrain_jax" / "warmups"


def test_a_folder_that_was_made_elsewhere_is_marked_and_kept(folder, tmp_path):
  cache, path = WarmUpCache({"seed": 0}), tmp_path / "run"
  (path / "checkpoints").mkdir(parents=True)
  (path / "checkpoints" / "params").write_text("made")
  cache.keep(path)
  assert not cache.is_kept  # nothing says from which inputs it was made
  cache.mark(path)
  cache.keep(path)
  assert cache.is_kept and contents(folder / cache.digest) == "made"
