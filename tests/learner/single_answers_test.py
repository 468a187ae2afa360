"""Tests KTO's loss of single answers against the paper's formula in numpy, without padding.

A model is a table of logprobs here; `single_answers_update_test` has the way through the transformer.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posttrain_jax.learner import preference, single_answers
from posttrain_jax.learner.preference import PreferenceLoss
from posttrain_jax.learner.preference_batch import LabelCounts, Pairs, ReferencedBatch
from posttrain_jax.parallel.mesh import make_mesh
from tests.learner.settings import make_preference_objective
from tests.learner.small_pairs import batch_of, lengths_of, packed, singles

TABLE = -1.0 - np.random.default_rng(3).random(24)
WEIGHTS = {"beta": 0.1, "desirable_weight": 0.6, "undesirable_weight": 1.5}
LABELS = np.array([each.desirable for each in singles()])
REFERENCE = -np.random.default_rng(1).uniform(2, 9, (8, 2))


def objective(options=None, **changes):
  return make_preference_objective(PreferenceLoss.KTO, {"beta": 0.1} if options is None else options, **changes)


def by_the_paper(policy, reference, desirable, *, beta, desirable_weight=1.0, undesirable_weight=1.0):
  """Computes λ_y − v(x, y) of each answer (arXiv:2402.01306, eq. 8), and z, from logprobs [N, 2]."""
  u, unlike = (policy - reference).T
  z = max(0.0, unlike.mean())
  above = np.where(desirable, u - z, z - u)
  weights = np.where(desirable, desirable_weight, undesirable_weight)
  return weights - weights / (1 + np.exp(-beta * above)), z


def output(made, policy, reference, *, real=None, desirable=LABELS, counts=None):
  """Returns loss and metrics of answers that share a row, from logprobs [N, 2]."""
  real = np.ones(len(policy), bool) if real is None else real
  counts = lengths_of(singles()) if counts is None else counts
  totals = LabelCounts(real.sum(), (real & desirable).sum(), (real & ~desirable).sum())
  given = Pairs(real[None], counts[None], reference[None].astype(np.float32), desirable[None])
  return single_answers.loss_of_sums(made, jnp.asarray(policy[None], jnp.float32), given, totals)


@pytest.mark.parametrize("mirrored", [1, -1])
@pytest.mark.parametrize("options", [{"beta": 0.1}, {"beta": 0.7}, WEIGHTS])
def test_the_loss_is_the_papers(options, mirrored):
  policy = REFERENCE + mirrored * np.random.default_rng(2).normal(1.0, 2, (8, 2))
  each, z = by_the_paper(policy, REFERENCE, LABELS, **options)
  assert (z == 0) == (mirrored < 0)  # the estimate of the KL is below 0 in one of the two cases
  found = output(objective(options), policy, REFERENCE)
  assert float(found.loss) == pytest.approx(each.mean(), rel=1e-5)
  assert float(found.sums["kl"]) == pytest.approx(z, rel=1e-5)


def test_metrics_are_means_over_the_answers_of_a_kind():
  policy = REFERENCE + np.random.default_rng(2).normal(1.0, 2, (8, 2))
  found, lengths = output(objective(), policy, REFERENCE).sums, lengths_of(singles())[:, 0]
  u = (policy - REFERENCE)[:, 0]
  for kind, which in (("chosen", LABELS), ("rejected", ~LABELS)):
    assert float(found[f"reward/{kind}"]) == pytest.approx(0.1 * u[which].mean(), rel=1e-4)
    assert float(found[f"logprob/{kind}"]) == pytest.approx(policy[which, 0].mean(), rel=1e-4)
    assert float(found[f"logprob/{kind}_moved"]) == pytest.approx(u[which].mean(), rel=1e-4)
    assert float(found[f"length/{kind}"]) == pytest.approx(lengths[which].mean(), rel=1e-4)
  assert float(found["reward/margin"]) == pytest.approx(0.1 * (u[LABELS].mean() - u[~LABELS].mean()), rel=1e-4)


def test_places_without_an_answer_are_as_if_they_were_not_there():
  policy = REFERENCE + np.random.default_rng(2).normal(1.0, 2, (8, 2))
  real = np.array([True, True, False, True, True, True, False, True])
  far = np.where(real[:, None], policy, 1e4)
  found = output(objective(WEIGHTS, nll_weight=0.2), far, REFERENCE, real=real)
  counts = lengths_of(singles())[real]
  sliced = output(
    objective(WEIGHTS, nll_weight=0.2), policy[real], REFERENCE[real], desirable=LABELS[real], counts=counts
  )
  assert float(found.loss) == pytest.approx(float(sliced.loss), rel=1e-6)
  for name, value in sliced.sums.items():
    assert float(found.sums[name]) == pytest.approx(float(value), rel=1e-5), name
  each, _ = by_the_paper(policy[real], REFERENCE[real], LABELS[real], **WEIGHTS)
  nll = -policy[real & LABELS, 0].mean()
  assert float(found.loss) == pytest.approx(each.mean() + 0.2 * nll, rel=1e-5)


def test_lengths_divide_logprobs_and_the_likelihood_term_if_asked():
  policy = REFERENCE + np.random.default_rng(2).normal(1.0, 2, (8, 2))
  lengths = lengths_of(singles())
  each, _ = by_the_paper(policy / lengths, REFERENCE / lengths, LABELS, beta=0.1)
  found = output(objective(length_averaged=True, nll_weight=0.5, nll_mean=True), policy, REFERENCE)
  nll = -(policy / lengths)[LABELS, 0].mean()
  assert float(found.loss) == pytest.approx(each.mean() + 0.5 * nll, rel=1e-5)


def test_good_answers_go_up_and_bad_ones_down_and_the_kl_is_a_constant():
  def loss(logprobs):
    given = Pairs(np.ones((1, 8), bool), lengths_of(singles())[None], REFERENCE[None].astype(np.float32), LABELS[None])
    return single_answers.loss_of_sums(objective(), logprobs[None], given, LabelCounts(8, 5, 3)).loss

  slopes = np.asarray(jax.grad(loss)(jnp.asarray(REFERENCE + 0.1, jnp.float32)))
  assert (slopes[LABELS, 0] < 0).all() and (slopes[~LABELS, 0] > 0).all()
  np.testing.assert_array_equal(slopes[:, 1], 0)


@pytest.mark.parametrize(("tokens", "shards"), [(200, 1), (200, 2), (18, 1), (18, 2)])
def test_packed_rows_give_the_formula_of_each_micro_batch(tokens, shards, monkeypatch):
  """Each micro-batch has the KL of its own answers; all divide by the update's number of answers."""
  reference = REFERENCE.astype(np.float32)
  filled = ReferencedBatch(
    batch_of(singles(), size=11, count_end=False), np.pad(reference, [(0, 3), (0, 0)], constant_values=1e4)
  )
  monkeypatch.setattr(preference, "packed_logprobs", lambda graph, table, rows, **_: table[rows.targets])
  update = packed(filled, tokens, make_mesh({"data": shards}, jax.devices()[:shards]))
  assert (update.count == 1) == (tokens == 200)
  assert [int(each) for each in jax.tree.leaves(update.totals)] == [8, 5, 3]
  loss_of = single_answers.make_loss(f"{tokens}/{shards}", objective(WEIGHTS))  # no graph; a name keeps it apart
  counted = np.array([[np.bincount(answer[:-1], minlength=24) for answer in each.answers] for each in singles()])
  wanted, numbers = 0.0, []
  for i in range(int(update.count)):
    part = jax.tree.map(lambda x, i=i: x[i], update.parts)
    there = [int(np.flatnonzero(reference[:, 0] == x)[0]) for x in part.pairs.reference[part.pairs.real][:, 0]]
    each, _ = by_the_paper(counted[there] @ TABLE, reference[there], LABELS[there], **WEIGHTS)
    found = loss_of(jnp.asarray(TABLE, jnp.float32), part, update.totals).loss
    assert float(found) == pytest.approx(each.sum() / 8, rel=1e-5)
    wanted, numbers = wanted + each.sum() / 8, numbers + there
  assert sorted(numbers) == list(range(8)) and wanted > 0.1
