"""Tests that the cache answers only for exactly the same model and data."""

import dataclasses

import jax
import numpy as np
import pytest

from posttrain_jax.data.comparison_batches import ComparisonBatches
from posttrain_jax.data.preferences import Comparison
from posttrain_jax.evaluation import reference_logprobs
from posttrain_jax.learner.division import Division
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.parallel.mesh import make_mesh
from tests.random_params import random_params

MODEL = TransformerConfig(24, num_layers=1, embed_dim=16, mlp_dim=24, num_heads=2, num_kv_heads=1, head_dim=8)

DIVISION = Division(prompts_per_update=2, budget=13)


def batches(seed=0, **options):
  rng = np.random.default_rng(seed)
  answers = lambda: tuple(np.append(rng.integers(3, 24, n), 2).astype(np.int32) for n in (3, 4))  # noqa: E731
  comparisons = [Comparison(tuple(rng.integers(3, 24, 4).tolist()), answers(), (0, 1)) for _ in range(5)]
  return list(ComparisonBatches(comparisons, batch_size=2, seed=0, **options).in_order(2))


@pytest.fixture
def ask(tmp_path, monkeypatch):
  """Looks the values up or computes them; returns them and whether they were computed."""
  compute, calls = reference_logprobs.compute_logprobs, []
  monkeypatch.setattr(
    reference_logprobs, "compute_logprobs", lambda *args, **options: calls.append(0) or compute(*args, **options)
  )

  def found(model=MODEL, seed=0, data=None, cache=tmp_path / "cache"):
    calls.clear()
    mesh = make_mesh({}, jax.devices()[:1])
    data = batches() if data is None else data
    values = reference_logprobs.reference_logprobs(
      model, random_params(model, seed=seed), data, 5, mesh, DIVISION, chunk=8, cache=cache
    )
    return values, bool(calls)

  return found


def test_the_second_time_it_is_read(ask, tmp_path):
  values, computed = ask()
  assert computed and values.shape == (5, 2) and values.dtype == np.float32 and (values < 0).all()
  again, computed = ask()
  assert not computed
  np.testing.assert_array_equal(again, values)
  assert len(list((tmp_path / "cache").iterdir())) == 1


def test_without_a_cache_it_is_computed_every_time(ask, tmp_path):
  assert ask(cache=None)[1] and ask(cache=None)[1]
  assert not (tmp_path / "cache").exists()


def test_another_model_or_other_data_are_computed(ask, tmp_path):
  values, _ = ask()
  for change in (
    {"seed": 1},
    {"data": batches(seed=1)},
    {"data": batches(count_end=False)},
    {"model": dataclasses.replace(MODEL, compute_dtype="bfloat16")},
    {"model": dataclasses.replace(MODEL, rope_theta=77.0)},  # the same parameters, another function
  ):
    other, computed = ask(**change)
    assert computed, change
    assert not np.array_equal(other, values), change
  assert not ask()[1]
  assert len(list((tmp_path / "cache").iterdir())) == 6


def test_how_a_model_is_computed_does_not_matter(ask):
  ask()
  assert not ask(model=dataclasses.replace(MODEL, remat="full", unroll=1))[1]


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "nan"])
def test_a_damaged_file_is_computed_again(ask, tmp_path, damage):
  values, _ = ask()
  (file,) = (tmp_path / "cache").iterdir()
  content = file.read_bytes()
  nan = np.float32(np.nan).tobytes()
  file.write_bytes({"empty": b"", "cut": content[:-3], "text": b"damaged" * 9, "nan": content[:-4] + nan}[damage])
  again, computed = ask()
  assert computed
  np.testing.assert_array_equal(again, values)
  assert file.read_bytes() == content
  assert not ask()[1]
