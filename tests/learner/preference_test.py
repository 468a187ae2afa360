"""Tests losses of pairs against rows computed one by one.

Every method moves in its direction, and rows that only fill up a batch have no effect.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs.tiny_dpo import OPTIONS
from posttrain_jax.data.comparison_batches import ComparisonBatches
from posttrain_jax.data.preferences import Comparison, with_mismatched
from posttrain_jax.learner import preference
from posttrain_jax.learner.batch_learner import BatchLearner
from posttrain_jax.learner.preference import PreferenceLoss, ReferencedBatch
from posttrain_jax.models.config import TransformerConfig
from posttrain_jax.models.forward import row_hidden
from posttrain_jax.parallel.mesh import make_mesh
from posttrain_jax.parallel.sharding import batch_shards
from posttrain_jax.types import InputError
from tests.learner.settings import make_optimizer_config, make_preference_objective
from tests.random_params import graph, names, random_params

CONFIG = TransformerConfig(24, num_layers=1, embed_dim=16, mlp_dim=24, num_heads=4, num_kv_heads=2, head_dim=4)
OPTIMIZER = make_optimizer_config(learning_rate=0.1, epsilon=1.0, weight_decay=0.0, clip_norm=0.5)
DPO = make_preference_objective(PreferenceLoss.DPO, {"beta": 0.5}, logprob_chunk=7)


@functools.cache
def pairs() -> list[Comparison]:
  rng = np.random.default_rng(0)
  return [
    Comparison(
      tuple(rng.integers(3, 24, rng.integers(1, 5)).tolist()),
      tuple(np.append(rng.integers(3, 24, rng.integers(1, 5)), 2).astype(np.int32) for _ in range(2)),
      (0, 1),
    )
    for _ in range(8)
  ]


def batch_of(comparisons, size=8, **options):
  (batch,) = ComparisonBatches(comparisons, batch_size=size, seed=0, **options).in_order(size)
  return batch


@jax.jit
def _logits(params, tokens):
  model = nnx.merge(graph(CONFIG), params)
  return row_hidden(model, tokens) @ model.unembedding()


def row_logprobs(comparisons, seed=0, count_end=True) -> np.ndarray:
  """Computes logprobs in float64 [N, K], each row alone, from all of its logits."""

  def one(prompt, answer):
    row = np.concatenate([prompt, answer]).astype(np.int32)
    padded = np.pad(row, (0, 12 - len(row)))[None]  # one shape for all rows
    logits = np.asarray(_logits(random_params(CONFIG, seed=seed), padded), np.float64)[0, : len(row)]
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    of_answer = logprobs[np.arange(len(prompt) - 1, len(row) - 1), answer]
    return of_answer[: len(answer) if count_end else -1].sum()

  return np.array([[one(each.prompt, answer) for answer in each.answers] for each in comparisons])


@functools.cache
def policy_and_reference() -> tuple[np.ndarray, np.ndarray]:
  return row_logprobs(pairs()), row_logprobs(pairs(), seed=1)


def referenced(**options) -> ReferencedBatch:
  return ReferencedBatch(batch_of(pairs(), **options), policy_and_reference()[1].astype(np.float32))


def output(objective, batch):
  loss = jax.jit(preference.make_loss(graph(CONFIG), objective))
  return loss(random_params(CONFIG), batch, preference.total_pairs(batch))


def train(batch, sizes=None, micro_batches=1):
  mesh = make_mesh(sizes or {}, jax.devices()[: math.prod((sizes or {}).values())])
  learner = BatchLearner(
    CONFIG,
    preference.make_loss(graph(CONFIG), DPO, shards=batch_shards(mesh)),
    preference.total_pairs,
    OPTIMIZER,
    mesh,
    micro_batches=micro_batches,
    seed=0,
    max_skipped_updates=5,
    params=random_params(CONFIG),
  )
  return learner.train(batch), names(learner.state.params)


reference = functools.cache(lambda: train(referenced()))


def assert_same(found, expected):
  for name, value in expected[0].items():
    np.testing.assert_allclose(found[0][name], value, rtol=1e-4, atol=1e-5, err_msg=name)
  before = names(random_params(CONFIG))
  for name, leaf in expected[1].items():
    assert np.abs(np.asarray(leaf) - np.asarray(before[name])).max() > 1e-6, name
    np.testing.assert_allclose(found[1][name], leaf, atol=2e-6, err_msg=name)


def test_logprobs_are_those_of_rows_run_one_by_one():
  found = jax.jit(functools.partial(preference.answer_logprobs, graph(CONFIG), chunk=7))
  params, without_end = random_params(CONFIG), row_logprobs(pairs(), count_end=False)
  np.testing.assert_allclose(found(params, batch_of(pairs())), policy_and_reference()[0], rtol=1e-4)
  np.testing.assert_allclose(found(params, batch_of(pairs(), count_end=False)), without_end, rtol=1e-4)


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
  assert metrics["length/chosen"] == np.mean([len(each.answers[0]) for each in pairs()])


@pytest.mark.parametrize("micro_batches", [2, 4])
def test_micro_batches(micro_batches):
  assert_same(train(referenced(), micro_batches=micro_batches), reference())


def test_on_a_mesh():
  assert_same(train(referenced(), dict(data=2, fsdp=2, tensor=2)), reference())


def filled_up() -> ReferencedBatch:
  """Makes sixteen rows of which eight only fill up, with a reference as far off as possible."""
  batch = batch_of(pairs(), size=16)
  assert (batch.index[8:] == -1).all()
  far = np.where(np.arange(8)[:, None] + np.array([[0, 1]]) > 4, -1e4, 1e4)
  return ReferencedBatch(batch, np.concatenate([policy_and_reference()[1], far]).astype(np.float32))


def test_rows_that_fill_up_have_no_influence():
  assert_same(train(filled_up(), micro_batches=2), reference())


@pytest.mark.parametrize("loss", [PreferenceLoss.AOT, PreferenceLoss.AOT_UNPAIRED])
def test_rows_that_fill_up_have_no_influence_on_losses_that_sort(loss):
  objective = make_preference_objective(loss, OPTIONS[loss])
  found, expected = output(objective, filled_up()), output(objective, referenced())
  assert float(found.loss) == pytest.approx(float(expected.loss), rel=1e-5)


def test_at_the_reference_the_loss_of_dpo_is_log_2():
  at_reference = ReferencedBatch(batch_of(pairs()), policy_and_reference()[0].astype(np.float32))
  found = output(DPO, at_reference)
  assert float(found.loss) == pytest.approx(math.log(2), abs=1e-5)
  assert float(found.sums["reward/margin"]) == pytest.approx(0, abs=1e-4)
  assert float(found.sums["logprob/chosen_moved"]) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("loss", PreferenceLoss)
def test_every_loss_runs_and_pulls_the_right_way_at_the_reference(loss, monkeypatch):
  comparisons = with_mismatched(pairs()) if loss == PreferenceLoss.KTO else pairs()
  objective = make_preference_objective(loss, OPTIONS[loss])
  assert objective.unpaired == (loss == PreferenceLoss.KTO)
  at_reference = row_logprobs(pairs())
  at_reference = np.pad(at_reference, [(0, 0), (0, len(comparisons[0].answers) - 2)]).astype(np.float32)
  batch = ReferencedBatch(batch_of(comparisons), at_reference)
  monkeypatch.setattr(preference, "answer_logprobs", lambda graph, params, *_, **__: params)

  def value(logprobs):
    return preference.make_loss(None, objective)(logprobs, batch, preference.total_pairs(batch)).loss

  slopes = np.asarray(jax.grad(value)(jnp.asarray(at_reference)))
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


@pytest.mark.parametrize("loss", [PreferenceLoss.DPO, PreferenceLoss.KTO, PreferenceLoss.SIMPO])
def test_a_few_updates_of_the_model_raise_chosen_above_rejected(loss):
  # The whole way through the transformer: also the arguments are told apart.
  comparisons = with_mismatched(pairs()) if loss == PreferenceLoss.KTO else pairs()
  objective = make_preference_objective(loss, OPTIONS[loss])
  batch = ReferencedBatch(batch_of(comparisons), row_logprobs(comparisons).astype(np.float32))
  learner = BatchLearner(
    CONFIG,
    preference.make_loss(graph(CONFIG), objective),
    preference.total_pairs,
    make_optimizer_config(learning_rate=0.01, weight_decay=0.0),
    make_mesh({}, jax.devices()[:1]),
    micro_batches=1,
    seed=0,
    max_skipped_updates=5,
    params=random_params(CONFIG),
  )
  records = [learner.train(batch) for _ in range(4)]
  assert records[0]["reward/margin"] == pytest.approx(0, abs=1e-3)
  assert records[-1]["reward/margin"] > 0.05 and records[-1]["loss"] < records[0]["loss"]


def test_kto_takes_its_kl_from_mismatched_answers():
  comparisons = with_mismatched(pairs())
  policy, of_reference = row_logprobs(comparisons), row_logprobs(comparisons, seed=1)
  kl = max(0.0, (policy[:, 2] - of_reference[:, 2]).mean())
  u = policy - of_reference
  sign = np.array([1.0, -1.0])
  wanted = (1 / (1 + np.exp(sign * 0.1 * (u[:, :2] - kl)))).mean()
  objective = make_preference_objective(PreferenceLoss.KTO, {"beta": 0.1})
  found = output(objective, ReferencedBatch(batch_of(comparisons), of_reference.astype(np.float32)))
  assert float(found.loss) == pytest.approx(wanted, rel=1e-5)
  mirrored = ReferencedBatch(batch_of(comparisons), (2 * policy - of_reference).astype(np.float32))
  assert kl != max(0.0, -(policy[:, 2] - of_reference[:, 2]).mean())  # one of the two is floored, the other is not
  kl = max(0.0, -(policy[:, 2] - of_reference[:, 2]).mean())
  wanted = (1 / (1 + np.exp(sign * 0.1 * (-u[:, :2] - kl)))).mean()
  assert float(output(objective, mirrored).loss) == pytest.approx(wanted, rel=1e-5)


def test_likelihood_term_summed_or_per_token():
  policy, _ = policy_and_reference()
  lengths = np.array([len(each.answers[0]) for each in pairs()])
  alone = reference()[0]["loss"]
  for nll_mean, wanted in ((False, -policy[:, 0].mean()), (True, -(policy[:, 0] / lengths).mean())):
    objective = make_preference_objective(PreferenceLoss.DPO, {"beta": 0.5}, nll_weight=0.2, nll_mean=nll_mean)
    assert float(output(objective, referenced()).loss) == pytest.approx(alone + 0.2 * wanted, rel=1e-5)


def test_averaging_over_length_comes_before_the_loss():
  policy, of_reference = policy_and_reference()
  lengths = np.array([[len(answer) for answer in each.answers] for each in pairs()])
  u = (policy - of_reference) / lengths
  wanted = np.square(u[:, 0] - u[:, 1] - 1 / (2 * 0.1)).mean()
  objective = make_preference_objective(PreferenceLoss.IPO, {"tau": 0.1}, length_averaged=True)
  assert float(output(objective, referenced()).loss) == pytest.approx(wanted, rel=1e-5)


def test_losses_of_means_are_given_means():
  policy, _ = policy_and_reference()
  lengths = np.array([[len(answer) for answer in each.answers] for each in pairs()])
  means = policy / lengths
  wanted = np.logaddexp(0, -(2.5 * (means[:, 0] - means[:, 1]) - 1.375)).mean()
  objective = make_preference_objective(PreferenceLoss.SIMPO, OPTIONS["simpo"])
  assert float(output(objective, referenced()).loss) == pytest.approx(wanted, rel=1e-5)


def test_options_are_those_of_the_function():
  with pytest.raises(InputError, match=r"objective.options.gamma: dpo has no such option, expected beta, label_smoo"):
    make_preference_objective(PreferenceLoss.DPO, {"beta": 0.1, "gamma": 1.0})
  with pytest.raises(InputError, match=r"objective.options.penalty: missing, dpop needs it"):
    make_preference_objective(PreferenceLoss.DPOP, {"beta": 0.1})
  with pytest.raises(InputError, match=r"objective.options.beta: missing, simpo needs it"):
    make_preference_objective(PreferenceLoss.SIMPO, {"gamma": 0.1})
