"""The value model: V before each token, zero at first, and an update that is the sum of its parts."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from posttrain_jax import losses
from posttrain_jax.learner import value
from posttrain_jax.learner.division import Division
from posttrain_jax.learner.value import ValueBatch, ValueObjective
from posttrain_jax.learner.value_learner import ValueLearner
from posttrain_jax.models import heads
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.types import InputError
from tests.learner.settings import make_optimizer_config
from tests.random_params import graph, random_params

MODEL = TransformerConfig(
  17, num_layers=1, embed_dim=16, mlp_dim=24, num_heads=2, num_kv_heads=1, head_dim=8, scalar_head=True
)
P, G, TP, TC = 4, 2, 5, 6
OBJECTIVE = ValueObjective(clip=0.2, coefficient=0.1)


def make_batch(seed=0):
  rng = np.random.default_rng(seed)
  mask = np.arange(TC) < rng.integers(1, TC + 1, (P, G, 1))
  return ValueBatch(
    prompts=rng.integers(0, 17, (P, TP)).astype(np.int32),
    prompt_lengths=rng.integers(1, TP + 1, P).astype(np.int32),
    answers=rng.integers(0, 17, (P, G, TC)).astype(np.int32),
    mask=mask,
    old_values=rng.normal(size=(P, G, TC)).astype(np.float32),
    returns=rng.normal(size=(P, G, TC)).astype(np.float32),
  )


def make_learner(params=None, *, per_update=2, micro_batches=1, mesh=None, objective=OBJECTIVE):
  return ValueLearner(
    MODEL,
    objective,
    make_optimizer_config(learning_rate=1e-2, clip_norm=0.0),
    mesh or make_mesh({}, jax.devices()[:1]),
    Division(per_update, micro_batches),
    max_skipped_updates=3,
    params=random_params(MODEL) if params is None else params,
  )


@pytest.fixture(scope="module")
def values():
  return make_learner().values(make_batch())


def test_a_value_is_the_score_of_what_comes_before_its_token(values):
  batch, params = make_batch(), random_params(MODEL)
  for p, g in ((0, 0), (3, 1)):
    prompt = batch.prompts[p, : batch.prompt_lengths[p]]
    row = np.concatenate([prompt, batch.answers[p, g]])[None]
    model = nnx.merge(graph(MODEL), params)
    scores = np.asarray(heads.token_scores(model, row_hidden(model, row)))[0]
    np.testing.assert_allclose(values[p, g], scores[len(prompt) - 1 : -1], atol=1e-5)


def test_its_own_layout_changes_nothing(values):
  learner = make_learner(mesh=make_mesh({"fsdp": 2, "tensor": 1}, jax.devices()[:2]), per_update=4, micro_batches=2)
  np.testing.assert_allclose(learner.values(make_batch()), values, atol=1e-5)


def test_a_head_of_zeros_gives_values_of_zero_and_learns():
  # From a reward model, whose own head and bias are not zero.
  model, params = heads.to_scalar_head(MODEL, random_params(MODEL), seed=0, zero=True)
  assert model == MODEL
  learner, batch = make_learner(params), make_batch()
  np.testing.assert_array_equal(learner.values(batch), np.zeros((P, G, TC)))
  learner.fit(batch, old_values=np.zeros((P, G, TC), np.float32), returns=batch.returns, order=[np.arange(P)])
  assert np.any(learner.values(batch) != 0)


def test_the_loss_and_what_is_measured(values):
  batch, before = make_batch(), values
  found = make_learner(per_update=P).fit(
    batch, old_values=batch.old_values, returns=batch.returns, order=[np.arange(P)]
  )
  moved = np.abs(before - batch.old_values)[batch.mask]
  by_hand = losses.value.clipped_value_loss(before, batch.old_values, batch.returns, batch.mask, clip=0.2)
  mean = float(np.sum(by_hand) / batch.mask.sum())
  assert found["value/unscaled_loss"] == pytest.approx(mean, rel=1e-5)
  assert found["value/loss"] == pytest.approx(0.1 * mean, rel=1e-5)
  assert found["value/clipped"] == pytest.approx((moved > 0.2).mean(), rel=1e-5)
  assert found["value/moved_max"] == pytest.approx(moved.max(), rel=1e-5)


def test_micro_batches_add_up_and_no_bound_is_a_square(values):
  batch, params = make_batch(), random_params(MODEL)
  loss = value.make_loss(graph(MODEL), ValueObjective(clip=0.0, coefficient=1.0))
  total = value.total_tokens(batch)
  part = jax.jit(jax.value_and_grad(lambda params, batch: loss(params, batch, total).loss))
  whole, gradient = part(params, batch)
  parts = [part(params, jax.tree.map(lambda x, p=p: x[p : p + 2], batch)) for p in (0, 2)]
  assert sum(each for each, _ in parts) == pytest.approx(float(whole), rel=1e-5)
  for one, *others in zip(jax.tree.leaves(gradient), *(jax.tree.leaves(each) for _, each in parts)):
    np.testing.assert_allclose(one, sum(others), atol=1e-5)
  squares = np.square(values - batch.returns)[batch.mask]
  assert float(whole) == pytest.approx(squares.mean() / 2, rel=1e-5)


def test_every_epoch_trains_on_every_prompt_once_and_on_nothing_that_is_masked(monkeypatch):
  learner, batch, seen = make_learner(), make_batch(), []
  monkeypatch.setattr(learner, "train", lambda part: seen.append(part) or {"skipped_updates": 0.0})
  masked = dataclasses.replace(batch, mask=batch.mask & (np.arange(P) != 1)[:, None, None])
  order = [np.array([3, 1, 0, 2]), np.array([0, 2, 1, 3])]
  learner.fit(masked, old_values=batch.old_values, returns=batch.returns, order=order)
  expected = [(3, 1), (0, 2), (0, 2), (1, 3)]
  assert len(seen) == len(expected)
  for part, rows in zip(seen, expected):
    np.testing.assert_array_equal(part.answers, batch.answers[list(rows)])
    np.testing.assert_array_equal(part.returns, batch.returns[list(rows)])
  seen.clear()
  nothing = dataclasses.replace(batch, mask=np.zeros_like(batch.mask))
  assert learner.fit(nothing, old_values=batch.old_values, returns=batch.returns, order=order) == {
    "value/skipped_updates": 0.0
  }
  assert not seen


def test_numbers_that_would_train_nothing():
  for wrong in (dict(clip=-0.1), dict(coefficient=0.0)):
    with pytest.raises(InputError, match=r"value\.objective"):
      ValueObjective(**wrong)
