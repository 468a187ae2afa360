"""Tests how many pages the caches have, also by what a device tells of its memory."""

import types

import jax
import pytest

from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.sampling import pool_size
from posttrain_jax.types import InputError
from tests.sampling.small_engine import CONFIG

TOKEN = 2 * 2 * 2 * 8 * 4  # keys and values, layers, heads, width, bytes


def pages(asked=None, *, most=1000, least=5, shards=1, model=CONFIG):
  mesh = make_mesh({}, jax.local_devices()[:1])
  return pool_size.pages_per_shard(model, mesh, asked=asked, shards=shards, most=most, least=least, page=4)


def test_the_tokens_that_are_asked_for_fill_whole_pages_of_each_shard():
  assert pool_size.token_bytes(CONFIG) == TOKEN
  assert [pages(asked, shards=2) for asked in (40, 41, 49)] == [5, 6, 7]
  assert pages(10**6) == 1000  # no more than can ever be used
  with pytest.raises(InputError, match=r"rollout.cache_tokens: 32, expected at least 40: on each of 2 batch shards"):
    pages(32, shards=2)


def test_a_cpu_gives_one_gib_by_default(monkeypatch):
  assert pages() == 1000
  monkeypatch.setattr(pool_size, "_HOST_BYTES", 100 * 4 * TOKEN)
  assert pages() == 100
  monkeypatch.setattr(pool_size, "_HOST_BYTES", 0)
  assert pages() == 5  # the longest answer to the longest prompt always fits


def test_a_device_gives_what_is_free(monkeypatch):
  """Leaves a tenth of the device's memory, and what arrays take."""
  stats = {"bytes_limit": 4000 * TOKEN, "bytes_in_use": 3200 * TOKEN}
  device = types.SimpleNamespace(platform="gpu", memory_stats=lambda: stats)
  mesh = types.SimpleNamespace(devices=types.SimpleNamespace(flat=[device]), shape={"tensor": 1})
  monkeypatch.setattr(jax, "local_devices", lambda: [device])
  assert pool_size._free_bytes(CONFIG, mesh) == 400 * TOKEN
  stats["bytes_in_use"] = 0
  params = 4 * CONFIG.num_params
  assert pool_size._free_bytes(CONFIG, mesh) == 3600 * TOKEN - params
  stats.clear()
  assert pool_size._free_bytes(CONFIG, mesh) is None


def test_for_a_device_that_is_not_here_nothing_is_left_out():
  device = types.SimpleNamespace(platform="tpu")
  mesh = types.SimpleNamespace(devices=types.SimpleNamespace(flat=[device]), shape={"tensor": 1})
  assert pool_size.pages_per_shard(CONFIG, mesh, asked=None, shards=1, most=10**9, least=5, page=4) == 10**9
