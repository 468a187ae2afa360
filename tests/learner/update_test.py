"""Tests that an update is the same for any cut, and that one which is not finite changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from posttrain_jax.learner.state import TrainState
from posttrain_jax.learner.update import (
  Diverged,
  LossOutput,
  SkippedUpdates,
  Summand,
  apply_update,
  combine,
  micro_batches,
  update_program,
)
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.sharding import batch_sharding

ROWS = np.array([[1.0, 2], [3, 4], [-1, 1], [0, 2], [5, 5], [1, 0], [2, 2], [4, 1]], np.float32)


def loss_of(params, rows, total):
  """Averages (x · w)² / 2 over the update's rows."""
  products = rows @ params
  return LossOutput(jnp.square(products).sum() / 2 / total, {"rows": jnp.float32(len(rows))}, {"most": products.max()})


def state():
  return TrainState(jnp.int32(4), jnp.array([1.0, -2.0]), optax.sgd(0.1).init(jnp.zeros(2)))


@pytest.mark.parametrize("parts", [1, 2, 8])
def test_losses_and_gradients_of_micro_batches_add_up(parts):
  batch = micro_batches(jnp.asarray(ROWS), parts)
  assert batch.shape == (parts, 8 // parts, 2)
  new, metrics = apply_update([Summand(loss_of, batch, 8)], optax.sgd(0.1), state())
  products = ROWS @ np.array([1.0, -2.0])
  gradient = (products[:, None] * ROWS).mean(0)
  np.testing.assert_allclose(new.params, np.array([1.0, -2.0]) - 0.1 * gradient, rtol=1e-5)
  assert int(new.updates) == 5
  assert metrics["loss"] == pytest.approx(np.square(products).mean() / 2, rel=1e-6)
  assert metrics["grad_norm"] == pytest.approx(np.linalg.norm(gradient), rel=1e-6)
  assert metrics["rows"] == 8 and metrics["most"] == products.max() and metrics["skipped_updates"] == 0


def test_only_the_first_micro_batches_are_computed_if_a_count_says_so():
  rows = ROWS.copy()
  rows[4:] = np.nan  # what is not in use may hold anything
  whole, _ = apply_update([Summand(loss_of, jnp.asarray(ROWS[None, :4]), 4)], optax.sgd(0.1), state())

  def update(count):
    return apply_update([Summand(loss_of, micro_batches(jnp.asarray(rows), 4), 4, count)], optax.sgd(0.1), state())

  new, metrics = jax.jit(update)(2)
  np.testing.assert_allclose(new.params, whole.params, rtol=1e-6)
  assert metrics["rows"] == 4 and metrics["most"] == (ROWS[:4] @ np.array([1.0, -2.0])).max()


def test_an_update_may_sum_several_losses():
  text = lambda params, rows, total: LossOutput((rows @ params).sum() / total, {}, {})  # noqa: E731
  rows = jnp.asarray(ROWS)
  summands = [Summand(loss_of, rows[None], 8), Summand(text, rows.reshape(2, 4, 2), 8)]
  new, metrics = apply_update(summands, optax.sgd(0.1), state())
  products = ROWS @ np.array([1.0, -2.0])
  gradient = (products[:, None] * ROWS).mean(0) + ROWS.mean(0)
  np.testing.assert_allclose(new.params, np.array([1.0, -2.0]) - 0.1 * gradient, rtol=1e-5)
  assert metrics["loss"] == pytest.approx(np.square(products).mean() / 2 + products.mean(), rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_update_that_is_not_finite_leaves_all_as_it_was(bad):
  rows = ROWS.copy()
  rows[3, 0] = bad
  before = state()
  new, metrics = apply_update([Summand(loss_of, micro_batches(jnp.asarray(rows), 2), 8)], optax.sgd(0.1), before)
  assert metrics["skipped_updates"] == 1 and int(new.updates) == 4
  np.testing.assert_array_equal(new.params, before.params)


def test_the_program_counts_the_totals_of_the_whole_update_and_donates_the_state():
  mesh = make_mesh({}, jax.devices()[:1])
  shardings = jax.tree.map(lambda _: jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()), state())
  summands = lambda batch: [Summand(loss_of, batch, batch.shape[0] * batch.shape[1])]  # noqa: E731
  program = update_program(summands, optax.sgd(0.1), shardings, batch_sharding(mesh, leading=1))
  given = jax.device_put(state(), shardings)
  with jax.set_mesh(mesh):
    new, metrics = program(given, micro_batches(ROWS, 4))
  expected, _ = apply_update([Summand(loss_of, micro_batches(jnp.asarray(ROWS), 4), 8)], optax.sgd(0.1), state())
  np.testing.assert_allclose(new.params, expected.params, rtol=1e-6)
  assert given.params.is_deleted() and metrics["rows"] == 8


def test_skipped_updates_in_a_row():
  skipped = SkippedUpdates(most=2)
  for each in (True, False, True):
    skipped.count(each)
  assert skipped.in_a_row == 1
  with pytest.raises(Diverged, match="2 updates in a row were not finite"):
    skipped.count(True)


def test_metrics_of_several_updates():
  found = [
    {"loss": 1.0, "ratio/max": 3.0, "max/loss": 1.0, "skipped_updates": 1.0},
    {"loss": 3.0, "ratio/max": 2.0, "max/loss": 3.0, "skipped_updates": 1.0},
  ]
  assert combine(found) == {"loss": 2.0, "ratio/max": 3.0, "max/loss": 2.0, "skipped_updates": 2.0}
  assert combine([]) == {"skipped_updates": 0.0}


def test_a_finite_gradient_that_makes_a_parameter_infinite_changes_nothing():
  batch, before = micro_batches(jnp.asarray(ROWS), 2), state()
  new, metrics = apply_update([Summand(loss_of, batch, 8)], optax.sgd(3e38), before)
  assert np.isfinite(metrics["grad_norm"]) and metrics["skipped_updates"] == 1
  np.testing.assert_array_equal(new.params, before.params)
  assert new.updates == before.updates
