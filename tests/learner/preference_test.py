"""Tests losses of pairs, given their answers' logprobs, against formulas without padding.

Every loss moves in its direction. `preference_update_test` has the way through the transformer.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.tiny_dpo import OPTIONS
from posttrain_jax import losses
from posttrain_jax.data.mismatched import with_mismatched
from posttrain_jax.learner import preference
from posttrain_jax.learner.preference import PreferenceLoss
from posttrain_jax.learner.preference_batch import Pairs, ReferencedBatch
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.types import InputError
from tests.learner.settings import make_preference_objective
from tests.learner.small_pairs import batch_of, lengths_of, packed, pairs

COUNTED = [PreferenceLoss.KTO, PreferenceLoss.AOT, PreferenceLoss.AOT_UNPAIRED]  # depend on how an update is cut
DRAWN = np.random.default_rng(1).uniform(-9, -2, (2, 8, 3))
POLICY, REFERENCE = DRAWN[..., :2]  # logprobs of chosen and rejected answers, [N, 2]
TABLE = -1.0 - np.random.default_rng(3).random(24).astype(np.float32)  # a "model": a logprob for each token id
CHANGES = [
  {"options": {"beta": 0.1, "label_smoothing": 0.1}},
  {"nll_weight": 0.2},
  {"nll_weight": 0.2, "nll_mean": True},
  {"length_averaged": True},
]


def output(objective, policy, reference, lengths=None):
  """Returns loss and metrics of pairs that share a row, from logprobs [N, K]."""
  lengths = lengths_of(pairs()) if lengths is None else lengths
  given = Pairs(jnp.ones((1, len(policy)), bool), lengths[None], reference[None].astype(np.float32))
  return preference.loss_of_sums(objective, jnp.asarray(policy[None], jnp.float32), given, len(policy))


def slow_loss(objective, comparisons, of_reference, table):
  """Computes a loss of pairs from the logprobs of their tokens; no array has padding."""
  tokens = np.array([[np.bincount(answer, minlength=24) for answer in each.answers] for each in comparisons])
  sums, counts = tokens @ table, lengths_of(comparisons)
  scale = 1 / counts if objective.length_averaged else 1.0
  policy, of_reference = sums * scale, of_reference * scale
  (policy_chosen, policy_rejected, *_), (reference_chosen, reference_rejected, *_) = policy.T, of_reference.T
  means = sums / counts
  given = dict(
    policy_chosen=policy_chosen,
    policy_rejected=policy_rejected,
    reference_chosen=reference_chosen,
    reference_rejected=reference_rejected,
    chosen_mean=means[:, 0],
    rejected_mean=means[:, 1],
  )
  if objective.loss == PreferenceLoss.KTO:
    given = dict(
      policy=policy[:, :2].ravel(),
      reference=of_reference[:, :2].ravel(),
      desirable=np.tile([True, False], len(policy)),
      kl=jnp.maximum((policy[:, 2] - of_reference[:, 2]).mean(), 0),
    )
  function = getattr(losses.preference, objective.loss)
  nll = -(means if objective.nll_mean else sums)[:, 0].mean()
  each = function(**{name: given[name] for name in objective.inputs}, **objective.options)
  return each.mean() + objective.nll_weight * nll, policy


@pytest.mark.parametrize(
  ("loss", "changes", "shards"),
  [
    *((loss, {}, 2) for loss in PreferenceLoss),
    *((PreferenceLoss.DPO, each, 2) for each in CHANGES),
    *((loss, {}, 1) for loss in (PreferenceLoss.DPO, PreferenceLoss.KTO, PreferenceLoss.AOT)),
  ],
)
def test_every_loss_and_its_gradient_are_those_of_pairs_computed_one_by_one(loss, changes, shards, monkeypatch):
  objective = make_preference_objective(loss, **{"options": OPTIONS[loss], **changes})
  comparisons = with_mismatched(pairs()) if objective.unpaired else pairs()
  of_reference = -np.random.default_rng(1).uniform(2, 9, (8, len(comparisons[0].answers))).astype(np.float32)
  filled = ReferencedBatch(batch_of(comparisons, size=11), np.pad(of_reference, [(0, 3), (0, 0)], constant_values=1e4))
  monkeypatch.setattr(preference, "packed_logprobs", lambda graph, table, rows, **_: table[rows.targets])
  cut = loss not in COUNTED
  update = packed(filled, 18 if cut else 200, make_mesh({"data": shards}, jax.devices()[:shards]))
  assert (update.count > 2 // shards) if cut else update.count == 1
  loss_of = preference.make_loss(shards, objective)  # no graph is needed; a number keeps `made_once` apart

  @jax.jit
  def fast(table, part):
    def value(table):
      found = loss_of(table, part, update.totals)
      return found.loss, found.sums["logprob/rejected"]

    (loss, rejected), gradient = jax.value_and_grad(value, has_aux=True)(table)
    return loss, rejected, gradient

  parts = [fast(TABLE, jax.tree.map(lambda x, i=i: x[i], update.parts)) for i in range(update.count)]
  found, rejected, gradient = (sum(each) for each in zip(*parts))
  slow = functools.partial(slow_loss, objective, comparisons, of_reference)
  (expected, policy), wanted = jax.value_and_grad(slow, has_aux=True)(jnp.asarray(TABLE))
  assert float(found) == pytest.approx(float(expected), rel=1e-5)
  np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-6)
  assert np.abs(wanted).max() > 1e-3
  if not objective.length_averaged:
    assert float(rejected) == pytest.approx(float(policy[:, 1].mean()), rel=1e-5)


def test_at_the_reference_the_loss_of_dpo_is_log_2():
  found = output(make_preference_objective(PreferenceLoss.DPO, {"beta": 0.5}), POLICY, POLICY)
  assert float(found.loss) == pytest.approx(np.log(2), abs=1e-6)
  assert float(found.sums["reward/margin"]) == float(found.sums["logprob/chosen_moved"]) == 0


@pytest.mark.parametrize("loss", PreferenceLoss)
def test_every_loss_runs_and_pulls_the_right_way_at_the_reference(loss):
  comparisons = with_mismatched(pairs()) if loss == PreferenceLoss.KTO else pairs()
  objective = make_preference_objective(loss, OPTIONS[loss])
  assert objective.unpaired == (loss == PreferenceLoss.KTO)
  at_reference = DRAWN[0, :, : len(comparisons[0].answers)]

  def value(logprobs):
    return output(objective, logprobs, at_reference, lengths_of(comparisons)).loss

  slopes = np.asarray(jax.grad(value)(jnp.asarray(at_reference, jnp.float32)))
  chosen, rejected = slopes[:, 0], slopes[:, 1]
  # DiscoPOP (2406.08414, section 5) starts between its minimum at x = -.12 and its maximum at .07: the wrong way.
  sign = -1 if loss == PreferenceLoss.DISCOPOP else 1
  assert np.isfinite(slopes).all()
  if loss == PreferenceLoss.APO_DOWN:  # pushes both down, the rejected one more
    np.testing.assert_allclose(chosen, 0, atol=1e-7)  # at the reference the two terms of chosen cancel
  else:
    assert (sign * chosen < 0).all(), chosen
  if loss == PreferenceLoss.NCA:  # up by 1/2 and down by 1/4 for chosen, down by 1/4 for rejected
    np.testing.assert_allclose(chosen, -0.25 * 0.1 / 8, rtol=1e-4)
  assert (sign * rejected > 0).all(), rejected
  if loss == PreferenceLoss.KTO:
    np.testing.assert_array_equal(slopes[:, 2], 0)  # the estimate of the KL is a constant


def test_kto_takes_its_kl_from_mismatched_answers():
  policy, of_reference = DRAWN
  objective = make_preference_objective(PreferenceLoss.KTO, {"beta": 0.1})
  floored = []
  for mirrored in (1, -1):
    u = mirrored * (policy - of_reference)
    kl = max(0.0, u[:, 2].mean())
    wanted = (1 / (1 + np.exp(np.array([1.0, -1.0]) * 0.1 * (u[:, :2] - kl)))).mean()
    found = output(objective, of_reference + u, of_reference, lengths_of(with_mismatched(pairs())))
    assert float(found.loss) == pytest.approx(wanted, rel=1e-5)
    floored.append(kl == 0)
  assert sorted(floored) == [False, True]


def test_likelihood_term_summed_or_per_token():
  lengths = lengths_of(pairs())[:, 0]
  alone = output(make_preference_objective(PreferenceLoss.DPO, {"beta": 0.5}), POLICY, REFERENCE).loss
  for nll_mean, wanted in ((False, -POLICY[:, 0].mean()), (True, -(POLICY[:, 0] / lengths).mean())):
    objective = make_preference_objective(PreferenceLoss.DPO, {"beta": 0.5}, nll_weight=0.2, nll_mean=nll_mean)
    assert float(output(objective, POLICY, REFERENCE).loss) == pytest.approx(float(alone) + 0.2 * wanted, rel=1e-5)


def test_averaging_over_length_comes_before_the_loss():
  u = (POLICY - REFERENCE) / lengths_of(pairs())
  wanted = np.square(u[:, 0] - u[:, 1] - 1 / (2 * 0.1)).mean()
  objective = make_preference_objective(PreferenceLoss.IPO, {"tau": 0.1}, length_averaged=True)
  assert float(output(objective, POLICY, REFERENCE).loss) == pytest.approx(wanted, rel=1e-5)


def test_losses_of_means_are_given_means():
  means = POLICY / lengths_of(pairs())
  wanted = np.logaddexp(0, -(2.5 * (means[:, 0] - means[:, 1]) - 1.375)).mean()
  objective = make_preference_objective(PreferenceLoss.SIMPO, OPTIONS["simpo"])
  assert float(output(objective, POLICY, REFERENCE).loss) == pytest.approx(wanted, rel=1e-5)


def test_options_are_those_of_the_function():
  with pytest.raises(InputError, match=r"objective.options.gamma: dpo has no such option, expected beta, label_smoo"):
    make_preference_objective(PreferenceLoss.DPO, {"beta": 0.1, "gamma": 1.0})
  with pytest.raises(InputError, match=r"objective.options.penalty: missing, dpop needs it"):
    make_preference_objective(PreferenceLoss.DPOP, {"beta": 0.1})
  with pytest.raises(InputError, match=r"objective.options.beta: missing, simpo needs it"):
    make_preference_objective(PreferenceLoss.SIMPO, {"gamma": 0.1})
