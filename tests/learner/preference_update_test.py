"""Tests updates on packed pairs against rows of the transformer that are computed one by one.

Rows that only fill up a batch have no effect, and any division and mesh give the same update.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.tiny_dpo import OPTIONS
from posttrain_jax.data.mismatched import with_mismatched
from posttrain_jax.learner import preference
from posttrain_jax.learner.batch_learner import BatchLearner
from posttrain_jax.learner.preference import PreferenceLoss
from posttrain_jax.learner.preference_batch import ReferencedBatch
from tests.learner.settings import make_preference_objective
from tests.learner.small_pair_learner import assert_same, new_learner
from tests.learner.small_pairs import CONFIG, WIDEST, batch_of, lengths_of, logits, packed, pairs, row_logprobs
from tests.random_params import graph, names, random_params

DPO = make_preference_objective(PreferenceLoss.DPO, {"beta": 0.5}, logprob_chunk=7)


@functools.cache
def policy_and_reference() -> tuple[np.ndarray, np.ndarray]:
  return row_logprobs(pairs()), row_logprobs(pairs(), seed=1)


def referenced(**options) -> ReferencedBatch:
  return ReferencedBatch(batch_of(pairs(), **options), policy_and_reference()[1].astype(np.float32))


def make_learner(objective=DPO, **settings) -> BatchLearner:
  return new_learner(preference.make_loss, objective, **settings)


def train(batch, **settings):
  learner = make_learner(**settings)
  return learner.train(batch), names(learner.state.params)


reference = functools.cache(lambda: train(referenced()))


def test_dpo_and_its_metrics_by_hand():
  metrics, _ = reference()
  policy, of_reference = policy_and_reference()
  moved = policy - of_reference
  margin = 0.5 * (moved[:, 0] - moved[:, 1])
  assert metrics["loss"] == pytest.approx(np.logaddexp(0, -margin).mean(), rel=1e-5)
  assert metrics["reward/margin"] == pytest.approx(margin.mean(), rel=1e-4)
  assert metrics["reward/accuracy"] == pytest.approx((margin > 0).mean())
  assert metrics["reward/chosen"] == pytest.approx(0.5 * moved[:, 0].mean(), rel=1e-4)
  assert metrics["logprob/rejected_moved"] == pytest.approx(moved[:, 1].mean(), rel=1e-4)
  assert metrics["logprob/chosen"] == pytest.approx(policy[:, 0].mean(), rel=1e-5)
  assert metrics["length/chosen"] == lengths_of(pairs())[:, 0].mean()


def test_a_token_budget_of_several_micro_batches():
  assert packed(referenced(), 30).count == 3 and packed(referenced()).count == 1
  assert_same(train(referenced(), tokens=30), reference())


def test_on_a_mesh():
  assert_same(train(referenced(), sizes=dict(data=2, fsdp=2, tensor=2)), reference())


def filled_up() -> ReferencedBatch:
  """Makes sixteen rows of which eight only fill up, with a reference as far off as possible."""
  batch = batch_of(pairs(), size=16)
  assert (batch.index[8:] == -1).all()
  far = np.where(np.arange(8)[:, None] + np.array([[0, 1]]) > 4, -1e4, 1e4)
  return ReferencedBatch(batch, np.concatenate([policy_and_reference()[1], far]).astype(np.float32))


def test_rows_that_fill_up_have_no_influence_and_a_micro_batch_may_hold_one_pair():
  assert packed(filled_up(), WIDEST).count == 8
  assert_same(train(filled_up(), tokens=WIDEST), reference())


def test_the_gradient_of_packed_pairs_is_that_of_rows_run_one_by_one():
  batch, objective = referenced(count_end=False), make_preference_objective(PreferenceLoss.DPO, {"beta": 0.5})
  rows = [(each.prompt, answer) for each in pairs() for answer in each.answers]
  tokens = np.array([np.pad(np.concatenate(row), (0, 12 - len(row[0]) - len(row[1]))) for row in rows], np.int32)
  starts, lengths = (np.array([len(row[i]) for row in rows])[:, None] for i in (0, 1))
  learned = (np.arange(11) >= starts - 1) & (np.arange(11) < starts + lengths - 2)  # place t predicts token t + 1

  def slow(params):
    logprobs = jax.nn.log_softmax(logits(params, tokens))[:, :-1]
    sums = jnp.where(learned, jnp.take_along_axis(logprobs, tokens[:, 1:, None], axis=2)[..., 0], 0).sum(1)
    moved = sums.reshape(8, 2) - batch.reference
    return jax.nn.softplus(-0.5 * (moved[:, 0] - moved[:, 1])).mean()

  loss = preference.make_loss(graph(CONFIG), objective)

  @jax.jit
  def fast(params, part, total):
    return jax.value_and_grad(lambda params: loss(params, part, total).loss)(params)

  update = packed(batch, tokens=20)
  parts = [jax.tree.map(lambda x, i=i: x[i], update.parts) for i in range(update.count)]
  found = [fast(random_params(CONFIG), part, update.totals) for part in parts]
  assert len(found) == 3
  expected = jax.jit(jax.value_and_grad(slow))(random_params(CONFIG))
  assert float(sum(value for value, _ in found)) == pytest.approx(float(expected[0]), rel=1e-5)
  gradient = jax.tree.map(lambda *parts: sum(parts), *(gradient for _, gradient in found))
  expected = names(expected[1])
  for name, leaf in names(gradient).items():
    np.testing.assert_allclose(leaf, expected[name], atol=1e-5, err_msg=name)
    assert np.abs(np.asarray(leaf)).max() > 1e-4, name


@pytest.mark.parametrize("loss", [PreferenceLoss.DPO, PreferenceLoss.KTO])
def test_a_few_updates_of_the_model_raise_chosen_above_rejected(loss):
  """Goes the whole way through the transformer, from where the policy is the reference."""
  if loss == PreferenceLoss.DPO:
    comparisons, learner = pairs(), make_learner()
  else:
    comparisons = with_mismatched(pairs())
    learner = make_learner(make_preference_objective(loss, OPTIONS[loss]), tokens=8 * (WIDEST + 5))
  batch = ReferencedBatch(batch_of(comparisons), row_logprobs(comparisons).astype(np.float32))
  records = [learner.train(batch) for _ in range(4)]
  assert records[0]["reward/margin"] == pytest.approx(0, abs=1e-3)
  assert records[-1]["reward/margin"] > 0.01 and records[-1]["loss"] < records[0]["loss"]
