"""Tests the value model: V before each token, 0 at first, and an update that sums its parts."""

import jax
import numpy as np
import pytest
from flax import nnx

from posttrain_jax import losses
from posttrain_jax.learner import value
from posttrain_jax.learner.packing import Packing, sizes_of
from posttrain_jax.learner.value import ValueObjective, pack_values
from posttrain_jax.models import heads
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.types import InputError
from tests.learner.small_value import MODEL, TC, TP, G, P, make_batch, make_learner
from tests.random_params import graph, random_params


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
    length = batch.mask[p, g].sum()  # values of masked tokens are not computed
    np.testing.assert_allclose(values[p, g, :length], scores[len(prompt) - 1 : -1][:length], atol=1e-5)


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

  @jax.jit
  def part(params, rows, total):
    return jax.value_and_grad(lambda params: loss(params, rows, total).loss)(params)

  def summed(tokens):
    packed = pack_values(batch, Packing(batch, sizes_of(batch, tokens=tokens, shards=1, whole_answers=False)))
    found = [part(params, jax.tree.map(lambda x, i=i: x[i], packed.parts), packed.totals) for i in range(packed.count)]
    return len(found), jax.tree.map(lambda *x: sum(x), *found)

  (one, (whole, gradient)), (several, (found, of_parts)) = summed(P * (TP - 1 + G * TC)), summed(TP - 1 + TC)
  assert one == 1 and several > 2
  assert float(found) == pytest.approx(float(whole), rel=1e-5)
  for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(of_parts)):
    np.testing.assert_allclose(a, b, atol=1e-5)
  squares = np.square(values - batch.returns)[batch.mask]
  assert float(whole) == pytest.approx(squares.mean() / 2, rel=1e-5)


def test_numbers_that_would_train_nothing():
  for wrong in (dict(clip=-0.1, coefficient=0.1), dict(clip=0.2, coefficient=0.0)):
    with pytest.raises(InputError, match=r"value\.objective"):
      ValueObjective(**wrong)
