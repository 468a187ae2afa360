"""Tests the value model's learner: its own layout, its own updates."""

import dataclasses

import jax
import numpy as np
import pytest

from posttrain_jax.models import heads
from posttrain_jax.parallel.mesh import make_mesh
from tests.learner.small_value import MODEL, TC, G, P, make_batch, make_learner
from tests.random_params import random_params


@pytest.fixture(scope="module")
def values():
  return make_learner().values(make_batch())


def test_its_own_layout_changes_nothing(values):
  learner = make_learner(mesh=make_mesh({"fsdp": 2, "tensor": 1}, jax.devices()[:2]), per_update=4, tokens=10)
  np.testing.assert_allclose(learner.values(make_batch()), values, atol=1e-5)


def test_a_head_of_zeros_gives_values_of_zero_and_learns():
  # From a reward model, whose own head and bias are not zero.
  model, params = heads.to_scalar_head(MODEL, random_params(MODEL), seed=0, zero=True)
  assert model == MODEL
  learner, batch = make_learner(params), make_batch()
  np.testing.assert_array_equal(learner.values(batch), np.zeros((P, G, TC)))
  learner.fit(batch, old_values=np.zeros((P, G, TC), np.float32), returns=batch.returns, order=[np.arange(P)])
  assert np.any(learner.values(batch) != 0)


def test_every_epoch_trains_on_every_prompt_once_and_on_nothing_that_is_masked(monkeypatch):
  learner, batch, seen = make_learner(), make_batch(), []
  monkeypatch.setattr(learner, "train", lambda part: seen.append(part) or {"skipped_updates": 0.0})
  masked = dataclasses.replace(batch, mask=batch.mask & (np.arange(P) != 1)[:, None, None])
  order = [np.array([3, 1, 0, 2]), np.array([0, 2, 1, 3])]
  learner.fit(masked, old_values=batch.old_values, returns=batch.returns, order=order)
  expected = [(3, 1), (0, 2), (0, 2), (1, 3)]
  assert len(seen) == len(expected)
  for update, rows in zip(seen, expected):
    packed = learner.pack(update)
    wanted, mask = batch.returns[list(rows)], masked.mask[list(rows)]
    assert packed.totals == mask.sum()
    np.testing.assert_array_equal(np.sort(packed.parts.returns[packed.parts.mask]), np.sort(wanted[mask]))
  seen.clear()
  nothing = dataclasses.replace(batch, mask=np.zeros_like(batch.mask))
  assert learner.fit(nothing, old_values=batch.old_values, returns=batch.returns, order=order) == {
    "value/skipped_updates": 0.0
  }
  assert not seen
